// Keys of the mode. None is one of OHIF's but undo and redo, which are the session's here.

export const KEYS = [
  { key: 'q', label: 'Q', does: 'click: this belongs to it', run: ({ controller }) => controller.useTool('include') },
  { key: 'w', label: 'W', does: 'click: this does not', run: ({ controller }) => controller.useTool('exclude') },
  { key: 'x', label: 'X', does: 'box', run: ({ controller }) => controller.useTool('box') },
  { key: 't', label: 'T', does: 'text', run: ({ panel }) => panel?.focusText() },
  { key: 'f', label: 'F', does: 'follow through the slices', run: ({ bench }) => bench.propagate() },
  { key: 'g', label: 'G', does: 'new structure', run: ({ bench }) => bench.addStructure() },
  { key: 's', label: 'S', does: 'hide or show it', run: ({ bench }) => toggle(bench) },
  { key: 'ctrl+z', label: 'Ctrl+Z', does: 'undo', run: ({ bench }) => bench.undo() },
  { key: 'ctrl+y', label: 'Ctrl+Y', does: 'redo', run: ({ bench }) => bench.redo() },
  { key: 'ctrl+shift+z', run: ({ bench }) => bench.redo() },
  { key: 'ctrl+s', label: 'Ctrl+S', does: 'save', run: ({ panel }) => panel?.save() },
  { key: 'escape', label: 'Esc', does: 'cancel', run: ({ bench }) => bench.session.cancel(), when: bench => bench.session.progress },
];

/** What is pressed, as in `KEYS`. */
export function keyOf(event) {
  const parts = [(event.ctrlKey || event.metaKey) && 'ctrl', event.shiftKey && 'shift', event.altKey && 'alt'];
  return [...parts.filter(Boolean), event.key.toLowerCase()].join('+');
}

/** Listen before OHIF does; answers how to stop. */
export function listen(target, controllerNow, panelNow) {
  const onKey = event => {
    const controller = controllerNow();
    const bench = controller?.workbench;
    const action = KEYS.find(({ key }) => key === keyOf(event));
    if (!bench || !action || isTyping(event.target) || (action.when && !action.when(bench))) {
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat) {
      action.run({ controller, bench, panel: panelNow() });
    }
  };
  target.addEventListener('keydown', onKey, true);
  return () => target.removeEventListener('keydown', onKey, true);
}

function isTyping(element) {
  return element?.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(element?.tagName);
}

function toggle(bench) {
  const { active } = bench.structures;
  if (active) {
    bench.style(active, { visible: !active.visible });
  }
}
