// Masks on the wire: the bits of a rectangle, row by row, the first in the highest bit, deflated (zlib), in base64.

/** The pixels of a rectangle, one byte (0 or 1) each, row by row. */
export async function decodeMask({ width, height, bits }) {
  const count = width * height;
  const packed = await through(new DecompressionStream('deflate'), fromBase64(bits));
  if (packed.length !== (count + 7) >> 3) {
    throw new Error(`a mask of ${width} x ${height} pixels needs ${(count + 7) >> 3} bytes, found ${packed.length}`);
  }
  const pixels = new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    pixels[index] = (packed[index >> 3] >> (7 - (index & 7))) & 1;
  }
  return pixels;
}

/** A slice's mask (one byte a pixel, `columns` wide) as its rectangle; width and height are 0 where it is empty. */
export async function encodeMask(mask, columns) {
  const { x, y, width, height } = bounds(mask, columns);
  const packed = new Uint8Array((width * height + 7) >> 3);
  for (let row = 0, index = 0; row < height; row++) {
    for (let column = 0; column < width; column++, index++) {
      if (mask[(y + row) * columns + x + column]) {
        packed[index >> 3] |= 128 >> (index & 7);
      }
    }
  }
  const bits = toBase64(await through(new CompressionStream('deflate'), packed));
  return { x, y, width, height, bits };
}

/** The rectangle around what is not 0. */
export function bounds(mask, columns) {
  let [left, top, right, bottom] = [columns, -1, -1, -1];
  for (let index = 0; index < mask.length; index++) {
    if (mask[index]) {
      const row = Math.floor(index / columns);
      const column = index - row * columns;
      top = top < 0 ? row : top;
      bottom = row;
      left = Math.min(left, column);
      right = Math.max(right, column);
    }
  }
  return top < 0
    ? { x: 0, y: 0, width: 0, height: 0 }
    : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

async function through(transform, bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}

function toBase64(bytes) {
  let text = '';
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}
