import { deflateSync } from 'node:zlib';
import { expect, test } from 'vitest';

import { bounds, decodeMask, encodeMask } from '../../src/oncoseg_server/viewer/modules/bits.js';

test('a mask comes back as it was, for every width', async () => {
  let seed = 7;
  const random = () => ((seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648);
  for (const columns of [1, 3, 7, 8, 9, 31, 64]) {
    const mask = Uint8Array.from({ length: columns * 5 }, () => (random() < 0.4 ? 1 : 0));
    const encoded = await encodeMask(mask, columns);
    const pixels = await decodeMask(encoded);
    const back = new Uint8Array(mask.length);
    for (let row = 0; row < encoded.height; row++) {
      back.set(pixels.subarray(row * encoded.width, (row + 1) * encoded.width), (encoded.y + row) * columns + encoded.x);
    }
    expect(back).toEqual(mask);
  }
});

test('the first pixel is the highest bit, as the server writes it', async () => {
  const bits = deflateSync(Uint8Array.of(0b10000000, 0b01000000)).toString('base64');
  expect([...(await decodeMask({ width: 5, height: 2, bits }))]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
});

test('an empty mask has no sides', async () => {
  const { x, y, width, height } = await encodeMask(new Uint8Array(12), 4);
  expect([x, y, width, height]).toEqual([0, 0, 0, 0]);
});

test('the rectangle is the smallest one', () => {
  const mask = new Uint8Array(6 * 5);
  mask[2 * 6 + 4] = mask[3 * 6 + 1] = 1;
  expect(bounds(mask, 6)).toEqual({ x: 1, y: 2, width: 4, height: 2 });
});

test('bits of another size are refused', async () => {
  const bits = deflateSync(Uint8Array.of(255)).toString('base64');
  await expect(decodeMask({ width: 5, height: 2, bits })).rejects.toThrow('needs 2 bytes, found 1');
});
