import { describe, expect, test } from 'vitest';

import { Masks } from '../../src/oncoseg_server/viewer/modules/masks.js';

const NAMES = { 1: 'tumour', 2: 'node' };
const STRUCTURES = [{ name: 'tumour', number: 1 }, { name: 'node', number: 2 }];
const row = text => Uint8Array.from(text, Number);

function masks(content) {
  const all = new Masks(1, 6);
  Object.entries(content).forEach(([name, mask]) => all.set(name, 4, row(mask)));
  return all;
}

test('a change is all of its rectangle and nothing outside', () => {
  const all = new Masks(3, 4);
  all.set('tumour', 0, row('111111111111'));
  all.change('tumour', 0, { x: 1, y: 1, width: 2, height: 2 }, row('0110'));
  expect([...all.get('tumour', 0)].join('')).toBe('111110111101');
});

test('a change larger than the image is refused', () => {
  expect(() => new Masks(3, 4).change('tumour', 0, { x: 3, y: 0, width: 2, height: 1 }, row('11'))).toThrow(RangeError);
});

test('a mask that became empty is gone', () => {
  const all = masks({ tumour: '000001' });
  all.change('tumour', 4, { x: 5, y: 0, width: 1, height: 1 }, row('0'));
  expect(all.get('tumour', 4)).toBeUndefined();
  expect(all.slices().size).toBe(0);
});

test('where structures overlap the later one is drawn', () => {
  expect([...masks({ tumour: '011100', node: '000110' }).labels(4, STRUCTURES)]).toEqual([0, 1, 1, 2, 2, 0]);
});

describe('strokes', () => {
  const stroke = (all, after) => {
    const before = all.labels(4, STRUCTURES);
    const edits = all.strokes(4, before, row(after), number => NAMES[number]);
    return Object.fromEntries([...edits].map(([number, mask]) => [NAMES[number], [...mask].join('')]));
  };

  test('a structure keeps what another one hides', () => {
    expect(stroke(masks({ tumour: '011100', node: '000110' }), '111220')).toEqual({ tumour: '111100' });
  });

  test('a pixel that became another structure stays with the first: they overlap', () => {
    expect(stroke(masks({ tumour: '011100' }), '012200')).toEqual({ node: '001100' });
  });

  test('what is erased is lost by the structure that was drawn there, and by no other', () => {
    expect(stroke(masks({ tumour: '011100', node: '000110' }), '011020')).toEqual({ node: '000010' });
  });

  test('nothing changed, nothing sent', () => {
    expect(stroke(masks({ tumour: '011100' }), '011100')).toEqual({});
  });
});
