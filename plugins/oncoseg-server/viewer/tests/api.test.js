import { describe, expect, test } from 'vitest';

import { createApi, events, takeToken } from '../../src/oncoseg_server/viewer/modules/api.js';

const SESSION = { session: 'abc', lease: 'L' };
const json = (body, status = 200) => new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json' } });

function apiOf(answer, token = 'secret') {
  const calls = [];
  const fetch = async (url, options) => {
    calls.push({ url, ...options });
    return answer(url, options);
  };
  return [createApi({ fetch, token: () => token }), calls];
}

function streamOf(...parts) {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      parts.forEach(part => controller.enqueue(encoder.encode(part)));
      controller.close();
    },
  });
}

test('every call carries the token, the version, and a session its lease', async () => {
  const [api, calls] = apiOf(() => json({ steps: 1 }));
  await api.step(SESSION, { step: 'remove', structure: 'x' });
  const [{ url, method, headers, body }] = calls;
  expect([method, url]).toEqual(['POST', '/api/v1/sessions/abc/steps']);
  expect(headers.Authorization).toBe('Bearer secret');
  expect(headers['X-OncoSeg-Lease']).toBe('L');
  expect(headers['X-OncoSeg-API']).toBe('1');
  expect(JSON.parse(body)).toEqual({ step: 'remove', structure: 'x' });
});

test('without a token there is no header', async () => {
  const [api, calls] = apiOf(() => json({ api: 1 }), '');
  await api.server();
  expect(calls[0].headers.Authorization).toBeUndefined();
});

test('a refusal is a ServerError with the code and the sentence of the server', async () => {
  const [api] = apiOf(() => json({ code: 'lease_taken', message: 'somebody else has it' }, 409));
  await expect(api.undo(SESSION)).rejects.toMatchObject({ code: 'lease_taken', message: 'Somebody else has it.', status: 409 });
});

test('no answer at all is unreachable', async () => {
  const [api] = apiOf(() => Promise.reject(new TypeError('failed to fetch')));
  await expect(api.server()).rejects.toMatchObject({ code: 'unreachable', status: 0 });
});

test('another program on the port is named', async () => {
  const [api] = apiOf(() => new Response('<html>hello</html>', { status: 200 }));
  await expect(api.server()).rejects.toMatchObject({ code: 'wrong_server' });
  const [other] = apiOf(() => new Response('not here', { status: 404 }));
  await expect(other.server()).rejects.toMatchObject({ code: 'wrong_server' });
});

test('an empty answer is one', async () => {
  const [api] = apiOf(() => new Response(null, { status: 204 }));
  await expect(api.heartbeat(SESSION)).resolves.toBeUndefined();
});

describe('events', () => {
  test('are cut anywhere, with either line end', async () => {
    const parts = ['event: pro', 'gress\r\ndata: {"done": 1,', '"total": 2}\r\n\r', '\n: a comment\n\nevent: answer\ndata: {"steps": 3}\n\n'];
    const seen = [];
    for await (const event of events(streamOf(...parts))) {
      seen.push(event);
    }
    expect(seen).toEqual([
      { event: 'progress', data: { done: 1, total: 2 } },
      { event: 'answer', data: { steps: 3 } },
    ]);
  });

  const stream = (...parts) => () => new Response(streamOf(...parts), { headers: { 'Content-Type': 'text/event-stream' } });

  test('tell how far it is and end with the answer', async () => {
    const [api] = apiOf(stream('event: progress\ndata: {"done":1,"total":2}\n\n', 'event: answer\ndata: {"steps":4}\n\n'));
    const progress = [];
    expect(await api.follow(SESSION, {}, one => progress.push(one))).toEqual({ steps: 4 });
    expect(progress).toEqual([{ done: 1, total: 2 }]);
  });

  test('a failure in the stream is one', async () => {
    const [api] = apiOf(stream('event: failure\ndata: {"code":"cancelled","message":"cancelled"}\n\n'));
    await expect(api.follow(SESSION, {})).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('a stream that ends without an answer is a server that went away', async () => {
    const [api] = apiOf(stream('event: progress\ndata: {"done":1,"total":2}\n\n'));
    await expect(api.follow(SESSION, {})).rejects.toMatchObject({ code: 'unreachable' });
  });
});

test('the token leaves the address and stays with the tab', () => {
  const stored = new Map();
  const storage = { setItem: (key, value) => stored.set(key, value), getItem: key => stored.get(key) ?? null };
  const replaced = [];
  const history = { state: null, replaceState: (...all) => replaced.push(all[2]) };
  const location = { hash: '#token=a%2Bb', pathname: '/viewer/', search: '?x=1' };
  expect(takeToken(location, history, storage)).toBe('a+b');
  expect(replaced).toEqual(['/viewer/?x=1']);
  expect(takeToken({ hash: '', pathname: '/viewer/', search: '' }, history, storage)).toBe('a+b');
  expect(replaced).toHaveLength(1);
});
