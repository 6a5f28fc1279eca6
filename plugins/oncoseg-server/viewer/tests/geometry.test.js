import { expect, test } from 'vitest';

import { SliceTable, isInside, placeOf, pointOf } from '../../src/oncoseg_server/viewer/modules/geometry.js';

// Oblique, other spacings on each axis, slices that go downwards.
const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
const AFFINE = [
  [0.7 * c, -0.9 * s, 0, -170.5],
  [0.7 * s, 0.9 * c, 0, -324.5],
  [0, 0, -5, 120],
  [0, 0, 0, 1],
];

test('a point in millimetres and back', () => {
  for (const [slice, x, y] of [[0, 0.5, 0.5], [22, 359.4, 362.9], [60, 511.9, 0.1]]) {
    const place = placeOf(AFFINE, pointOf(AFFINE, slice, x, y));
    expect(place.slice).toBe(slice);
    expect(place.x).toBeCloseTo(x, 9);
    expect(place.y).toBeCloseTo(y, 9);
  }
});

test('the centre of the first pixel is (0.5, 0.5), at the origin of the affine', () => {
  expect(pointOf(AFFINE, 0, 0.5, 0.5)).toEqual([-170.5, -324.5, 120]);
});

test('x goes along a row', () => {
  const [from, to] = [pointOf(AFFINE, 0, 0.5, 0.5), pointOf(AFFINE, 0, 1.5, 0.5)];
  expect(to[0] - from[0]).toBeCloseTo(0.7 * c);
  expect(to[1] - from[1]).toBeCloseTo(0.7 * s);
});

test('a place outside the image is not in it', () => {
  const image = { rows: 10, columns: 20, slices: 3 };
  expect(isInside(image, { slice: 2, x: 20, y: 10 })).toBe(true);
  expect(isInside(image, { slice: 3, x: 1, y: 1 })).toBe(false);
  expect(isInside(image, { slice: 0, x: 1, y: 10.1 })).toBe(false);
});

test('slices are known by their instance, and frames by their number', () => {
  const stack = new SliceTable([{ sop_uid: '1.1', frame: null }, { sop_uid: '1.2', frame: null }]);
  expect(stack.sliceOf('1.2', undefined)).toBe(1);
  expect(stack.sliceOf('1.2', 1)).toBe(1);
  const frames = new SliceTable([{ sop_uid: '1.1', frame: 2 }, { sop_uid: '1.1', frame: 1 }]);
  expect(frames.sliceOf('1.1', 2)).toBe(0);
  expect(frames.sliceOf('1.1', 3)).toBeUndefined();
  expect(frames.sliceOf('1.9', 1)).toBeUndefined();
});

test('another image is noticed', () => {
  const table = new SliceTable(['1.1', '1.2', '1.3'].map(sop_uid => ({ sop_uid, frame: null })));
  const shown = (...uids) => uids.map(sopUid => ({ sopUid, frame: 1 }));
  expect(table.covers(shown('1.3', '1.1', '1.2'))).toBe(true);
  expect(table.covers(shown('1.1', '1.2'))).toBe(true);
  expect(table.covers(shown('1.1', '1.4'))).toBe(false);
  expect(table.covers(shown('1.1', '1.1'))).toBe(false);
  expect(table.covers([])).toBe(false);
});
