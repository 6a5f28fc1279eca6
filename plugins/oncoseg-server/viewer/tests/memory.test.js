import { expect, test } from 'vitest';

import { Memory } from '../../src/oncoseg_server/viewer/modules/memory.js';

function storage(limit = Infinity) {
  const items = new Map();
  return {
    getItem: key => items.get(key) ?? null,
    removeItem: key => items.delete(key),
    setItem(key, value) {
      if (value.length > limit) {
        throw new DOMException('full', 'QuotaExceededError');
      }
      items.set(key, value);
    },
  };
}

const STEPS = [{ step: 'prompt', structure: 'Lesion' }];

test('steps are here again after a reload, each series its own', () => {
  const tab = storage();
  new Memory(tab, 'pacs 1.2').remember({ model: 'toy', steps: STEPS, undone: [] });
  expect(new Memory(tab, 'pacs 1.2').recall()).toEqual({ model: 'toy', steps: STEPS, undone: [] });
  expect(new Memory(tab, 'pacs 1.3').recall()).toBeUndefined();
});

test('what was saved is forgotten', () => {
  const memory = new Memory(storage(), 'x');
  memory.remember({ model: 'toy', steps: STEPS, undone: [] });
  memory.forget();
  expect(memory.recall()).toBeUndefined();
});

test('a full storage leaves no older list behind', () => {
  const memory = new Memory(storage(100), 'x');
  memory.remember({ model: 'toy', steps: STEPS, undone: [] });
  memory.remember({ model: 'toy', steps: [...STEPS, { mask: 'x'.repeat(200) }], undone: [] });
  expect(memory.recall()).toBeUndefined();
});

test('what cannot be read is nothing', () => {
  const tab = storage();
  tab.setItem('oncoseg-steps x', '{"steps": 3}');
  expect(new Memory(tab, 'x').recall()).toBeUndefined();
});
