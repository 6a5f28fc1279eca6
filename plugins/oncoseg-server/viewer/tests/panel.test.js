import { describe, expect, test } from 'vitest';

import { hintsOf } from '../../src/oncoseg_server/viewer/modules/hints.js';
import { diameters, latency, lines, range, rows } from '../../src/oncoseg_server/viewer/modules/measurements.js';
import { KEYS, keyOf } from '../../src/oncoseg_server/viewer/modules/shortcuts.js';
import { clickOf } from '../../src/oncoseg_server/viewer/modules/tools.js';
import { Structures, fromHex, toHex } from '../../src/oncoseg_server/viewer/modules/structures.js';

const LINE = { mm: 44.81, ends_lps_mm: [[0, 0, 0], [44.81, 0, 0]] };
const NOTHING = {
  slices: [], score: null, presence: null, area_mm2: null, volume_ml: null, mean: null, unit: null, long: null, short: null,
};

describe('measurements', () => {
  test('long by short, in millimetres with one digit', () => {
    expect(diameters({ long: LINE, short: { mm: 41.25 } })).toBe('44.8 × 41.3 mm');
    expect(diameters({ long: LINE, short: null })).toBe('44.8 mm');
    expect(diameters({ long: null, short: null })).toBeUndefined();
  });

  test('only what there is', () => {
    expect(rows(NOTHING)).toEqual([]);
    const all = rows({ ...NOTHING, area_mm2: 512.4, volume_ml: 64.02, mean: 0, unit: 'HU', slices: [3, 4, 6] });
    expect(Object.fromEntries(all)).toEqual({
      'Area on the slice': '512 mm²', Volume: '64.0 ml', Mean: '0.0 HU', Slices: '4-7 (3)',
    });
  });

  test('slices are numbered as the viewer shows them', () => {
    expect(Object.fromEntries(rows({ ...NOTHING, slices: [0, 1] }, slice => 61 - slice)).Slices).toBe('60-61 (2)');
    expect(range([7])).toBe('7');
  });

  test('the time of an answer and its stages', () => {
    expect(latency({ encode: 210.2, decode: 95.4, pack: 0.1, total: 310 })).toBe('310 ms (encode 210, decode 95)');
    expect(latency({ decode: 5, measure: 6 })).toBe('11 ms (decode 5, measure 6)');
    expect(latency({})).toBeUndefined();
  });

  test('diameters to draw', () => {
    expect(lines({ long: LINE, short: null }, 'red')).toEqual([{ ends: LINE.ends_lps_mm, label: '44.8 mm', colour: 'red' }]);
  });
});

describe('structures', () => {
  test('have names and numbers of their own', () => {
    const structures = new Structures();
    structures.add();
    structures.add();
    expect(structures.list.map(({ name, number }) => [name, number])).toEqual([['Lesion', 1], ['Lesion 2', 2]]);
    structures.remove(structures.byNumber(1));
    expect(structures.add('node').number).toBe(1);
    expect(structures.active.name).toBe('node');
  });

  test('those of the server are adopted, the active one stays', () => {
    const structures = new Structures();
    const first = structures.add();
    expect(structures.adopt(['Lesion', 'GTV'])).toBe(true);
    expect(structures.adopt(['Lesion', 'GTV'])).toBe(false);
    expect(structures.active).toBe(first);
  });

  test('the active one is drawn last', () => {
    const structures = new Structures();
    const first = structures.add('a');
    structures.add('b');
    structures.active = first;
    expect(structures.drawingOrder().map(({ name }) => name)).toEqual(['b', 'a']);
  });

  test('names are at most 64 characters', () => {
    const structures = new Structures();
    structures.add('x'.repeat(80));
    structures.add('x'.repeat(80));
    expect(structures.list.every(({ name }) => name.length <= 64)).toBe(true);
    expect(new Set(structures.list.map(({ name }) => name)).size).toBe(2);
  });

  test('colours go through hexadecimal', () => {
    expect(fromHex(toHex([255, 176, 9]))).toEqual([255, 176, 9]);
  });
});

describe('shortcuts', () => {
  test('are pressed once each', () => {
    const keys = KEYS.map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keyOf({ key: 'Z', ctrlKey: true, shiftKey: true })).toBe('ctrl+shift+z');
    expect(keyOf({ key: 'Q' })).toBe('q');
  });

  test('none is one of the keys of OHIF 3.13 but undo and redo', () => {
    const ohif = 'z + - = r l h v c i right left pageup pagedown . , down up home end space esc 1 2 3 4 backspace enter n ] [ e b a';
    expect(KEYS.map(({ key }) => key).filter(key => ohif.split(' ').includes(key))).toEqual([]);
  });
});

describe('clicks of the mouse', () => {
  const viewport = {
    canvas: { getBoundingClientRect: () => ({ left: 100, top: 50 }) },
    canvasToWorld: ([x, y]) => [x, y, 7],
  };
  const press = more => ({ button: 0, clientX: 130, clientY: 60, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...more });

  test('are places in the world, positive or not, the other with Alt', () => {
    expect(clickOf(press(), viewport, 'include')).toEqual({ world: [30, 10, 7], positive: true });
    expect(clickOf(press(), viewport, 'exclude').positive).toBe(false);
    expect(clickOf(press({ altKey: true }), viewport, 'include').positive).toBe(false);
    expect(clickOf(press({ altKey: true }), viewport, 'exclude').positive).toBe(true);
  });

  test('of other buttons, with other keys and for other tools are not ours', () => {
    expect(clickOf(press({ button: 2 }), viewport, 'include')).toBeUndefined();
    expect(clickOf(press({ ctrlKey: true }), viewport, 'include')).toBeUndefined();
    expect(clickOf(press(), viewport, 'box')).toBeUndefined();
    expect(clickOf(press(), viewport, null)).toBeUndefined();
  });
});

test('hints on the image: those that count', () => {
  const hint = (kind, x) => ({ kind, points: [[x, x]], positive: true });
  const prompt = (structure, slice, hints, replace = false) => ({ step: 'prompt', structure, slice, hints, replace });
  const steps = [
    prompt('a', 1, [hint('point', 1)]),
    prompt('b', 1, [hint('point', 2)]),
    prompt('a', 2, [hint('point', 3)]),
    prompt('a', 1, [hint('box', 4)], true),
  ];
  expect(hintsOf(steps, 'a').map(({ slice, hint: { points } }) => [slice, points[0][0]])).toEqual([[2, 3], [1, 4]]);
  expect(hintsOf([...steps, { step: 'remove', structure: 'a' }], 'a')).toEqual([]);
});
