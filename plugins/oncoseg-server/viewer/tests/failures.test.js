import { expect, test } from 'vitest';

import { failureOf, isLost, isUnreachable, sentence, ServerError } from '../../src/oncoseg_server/viewer/modules/failures.js';

const ONE_SENTENCE = /^[A-Z][^.!?]*(\.[a-z0-9][^.!?]*)*[.!?]$/;

test('the sentence of the server is shown, as one sentence', () => {
  const error = failureOf(507, { code: 'disk_full', message: "the server's disk is full: free some space" });
  expect(error.code).toBe('disk_full');
  expect(error.message).toBe("The server's disk is full: free some space.");
});

test.each([
  [401, 'unauthorized'],
  [404, 'wrong_server'],
  [409, 'lease_taken'],
  [410, 'lease_expired'],
  [413, 'too_large'],
  [422, 'prompt_refused'],
  [424, 'source_unreachable'],
  [429, 'too_many_sessions'],
  [500, 'internal'],
  [502, 'unreachable'],
  [503, 'busy'],
  [504, 'timed_out'],
  [507, 'disk_full'],
  [418, 'bad_request'],
])('status %i without a reason has one sentence that says what to do', (status, code) => {
  const error = failureOf(status, undefined);
  expect(error.code).toBe(code);
  expect(error.message).toMatch(ONE_SENTENCE);
});

test('a code that this page does not know is still named', () => {
  expect(new ServerError('quite_new').message).toContain('quite_new');
});

test('which failures the steps here can mend', () => {
  expect(isLost(failureOf(410, { code: 'lease_expired', message: 'x' }))).toBe(true);
  expect(isLost(failureOf(404, { code: 'unknown_session', message: 'x' }))).toBe(true);
  expect(isLost(failureOf(409, { code: 'lease_taken', message: 'x' }))).toBe(false);
  expect(isUnreachable(failureOf(502, undefined))).toBe(true);
});

test('sentence', () => {
  expect(sentence('the model\n refused')).toBe('The model refused.');
  expect(sentence('Why?')).toBe('Why?');
  expect(sentence(undefined)).toBe('');
});
