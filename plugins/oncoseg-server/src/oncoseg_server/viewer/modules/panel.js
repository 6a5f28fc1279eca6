// OncoSeg's panel, drawn anew with every change of state; what is typed in it stays.

import { button, h } from './dom.js';
import { latency, rows } from './measurements.js';
import { KEYS } from './shortcuts.js';
import { css, fromHex, toHex } from './structures.js';

const FORMATS = { seg: 'SEG', rtstruct: 'RTSTRUCT', sr: 'SR' };
const PHASES = {
  closed: 'Not connected',
  opening: 'Opening the series …',
  ready: 'Ready',
  busy: 'Working …',
  lost: 'No connection, trying again …',
  failed: 'Stopped',
};

/** The panel in `place`; `controllerNow()` gives the mode's controller, or null before there is one. */
export class Panel {
  #formats = new Set(Object.keys(FORMATS));
  #text = h('input', { type: 'text', className: 'oncoseg-input', placeholder: 'e.g. lung tumour', maxLength: 200 });
  #textRow = null;
  #renaming = null;
  #frame = 0;
  #keys = this.#shortcuts();

  constructor(place, controllerNow) {
    this.place = place;
    this.controllerNow = controllerNow;
    this.draw = this.draw.bind(this);
    this.#text.addEventListener('keydown', event => event.key === 'Enter' && this.#askText());
    this.follow();
  }

  /** Follow the controller that there is now. */
  follow() {
    const controller = this.controllerNow();
    if (controller !== this.controller) {
      this.controller?.removeEventListener('state', this.draw);
      this.controller = controller;
      controller?.addEventListener('state', this.draw);
    }
    this.draw();
  }

  destroy() {
    cancelAnimationFrame(this.#frame);
    this.controller?.removeEventListener('state', this.draw);
    this.place.replaceChildren();
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  focusText() {
    this.#text.focus();
  }

  save() {
    const formats = Object.keys(FORMATS).filter(format => this.#formats.has(format));
    if (formats.length) {
      this.#bench?.save(formats);
    }
  }

  get #bench() {
    return this.controller?.workbench;
  }

  #draw() {
    const bench = this.#bench;
    const focused = document.activeElement === this.#text;
    if (this.#renaming && document.activeElement === this.#renaming) {
      return; // drawn when the name is given
    }
    if (!bench) {
      this.place.replaceChildren(h('p', { className: 'oncoseg-hint' }, 'Open a CT or MR series in a viewport.'));
      return;
    }
    this.place.replaceChildren(
      ...[
        this.#state(bench),
        this.#model(bench),
        this.#structures(bench),
        this.#tools(bench),
        this.#measured(bench),
        this.#saving(bench),
        this.#keys,
      ].filter(Boolean)
    );
    if (focused) {
      this.#text.focus();
    }
  }

  #state({ session }) {
    const { phase, error, progress } = session;
    const isBroken = phase === 'lost' || phase === 'failed';
    const time = session.steps.length ? latency(session.timing) : undefined;
    return h(
      'section',
      { className: 'oncoseg-state', data: { phase, answered: session.answered } },
      h('div', { className: `oncoseg-phase oncoseg-${phase}` }, h('i', { className: 'oncoseg-dot' }), PHASES[phase]),
      error && h('p', { className: 'oncoseg-error', role: 'alert', data: { code: error.code ?? '' } }, error.message),
      this.controller.notice && h('p', { className: 'oncoseg-notice', role: 'status' }, this.controller.notice),
      isBroken && button('Open again', () => this.controller.reopen(), { className: 'oncoseg-button' }),
      progress && this.#progress(session),
      time && !isBroken && h('p', { className: 'oncoseg-latency', title: 'How long the last answer took, by stage' }, time)
    );
  }

  #progress(session) {
    const { done, total } = session.progress;
    return h(
      'div',
      { className: 'oncoseg-progress' },
      h('progress', { max: total || 1, value: done }),
      h('span', {}, total ? `${done} of ${total}` : 'starting'),
      button('Cancel', () => session.cancel().catch(() => undefined), { className: 'oncoseg-button' })
    );
  }

  #model(bench) {
    const { info, model, phase } = bench.session;
    if (!info) {
      return null;
    }
    const options = info.models.map(({ name, engine, precision }) =>
      h('option', { value: name, selected: name === model, title: `${engine}, ${precision}` }, name)
    );
    const current = info.models.find(({ name }) => name === model);
    return h(
      'section',
      {},
      h('label', { className: 'oncoseg-row' }, h('span', {}, 'Model'), h(
        'select',
        { className: 'oncoseg-input', disabled: phase !== 'ready', onchange: event => bench.useModel(event.target.value) },
        options
      )),
      current?.notice && h('p', { className: 'oncoseg-hint' }, current.notice)
    );
  }

  #structures(bench) {
    const { structures } = bench;
    return h(
      'section',
      {},
      h('h3', {}, 'Structures', button('+ New', () => bench.addStructure(), { className: 'oncoseg-link', title: 'New structure (G)' })),
      h('ul', { className: 'oncoseg-structures' }, structures.list.map(structure => this.#structure(bench, structure)))
    );
  }

  #structure(bench, structure) {
    const { name, colour, visible } = structure;
    const isActive = bench.structures.active === structure;
    const facts = bench.session.structures.find(fact => fact.name === name);
    return h(
      'li',
      { className: isActive ? 'oncoseg-active' : '', onclick: () => isActive || bench.activate(structure) },
      h('input', {
        type: 'color',
        value: toHex(colour),
        title: 'Colour',
        onclick: event => event.stopPropagation(),
        onchange: event => bench.style(structure, { colour: fromHex(event.target.value) }),
      }),
      h('span', { className: 'oncoseg-name', title: 'Double click to rename', ondblclick: event => this.#rename(event, bench, structure) }, name),
      facts?.edited && h('small', { title: 'Edited by hand' }, 'edited'),
      facts?.propagated && h('small', { title: 'Followed through the slices' }, '3-D'),
      icon(visible ? 'eye' : 'hidden', visible ? 'Hide (S)' : 'Show (S)', () => bench.style(structure, { visible: !visible })),
      icon('remove', 'Remove', () => bench.removeStructure(structure))
    );
  }

  #rename(event, bench, structure) {
    event.stopPropagation();
    const label = event.currentTarget;
    const input = h('input', { type: 'text', className: 'oncoseg-input', value: structure.name, maxLength: 64 });
    this.#renaming = input;
    const finish = isKept => {
      if (this.#renaming === input) {
        this.#renaming = null;
        if (isKept && input.value.trim()) {
          bench.renameStructure(structure, input.value);
        }
        this.draw();
      }
    };
    input.addEventListener('keydown', ({ key }) => (key === 'Enter' || key === 'Escape') && finish(key === 'Enter'));
    input.addEventListener('blur', () => finish(true));
    input.addEventListener('click', click => click.stopPropagation());
    label.replaceWith(input);
    input.select();
  }

  #tools(bench) {
    const { session } = bench;
    const prompts = session.info?.models.find(({ name }) => name === session.model)?.prompts;
    const takes = kind => !prompts || prompts.includes(kind);
    const tool = (kind, text, key, title) =>
      button(text, () => this.controller.useTool(this.controller.tool === kind ? null : kind), {
        className: `oncoseg-button${this.controller.tool === kind ? ' oncoseg-on' : ''}`,
        title: `${title} (${key})`,
        data: { tool: kind },
        disabled: !takes(kind === 'box' ? 'box' : 'point'),
      });
    const isReady = session.phase === 'ready';
    const act = (text, run, enabled, title) =>
      button(text, run, { className: 'oncoseg-button', disabled: !(isReady && enabled), title });
    this.#textRow = takes('text')
      ? h('div', { className: 'oncoseg-row' }, this.#text, act('Find', () => this.#askText(), true, 'Segment what the text names (T)'))
      : null;
    return h(
      'section',
      {},
      h('h3', {}, 'Prompt'),
      h('div', { className: 'oncoseg-buttons' },
        tool('include', '+ Click', 'Q', 'Click on what belongs to the structure; Alt for what does not'),
        tool('exclude', '− Click', 'W', 'Click on what does not belong to it'),
        tool('box', 'Box', 'X', 'Draw a box around it')),
      h('div', { className: 'oncoseg-buttons' },
        button('Brush', () => this.controller.useBrush('CircularBrush'), { className: 'oncoseg-button', title: "OHIF's brush (B); its edit is the next prompt" }),
        button('Eraser', () => this.controller.useBrush('CircularEraser'), { className: 'oncoseg-button', title: "OHIF's eraser (E)" })),
      this.#textRow,
      h('div', { className: 'oncoseg-buttons' },
        act('Undo', () => bench.undo(), session.steps.length, 'Ctrl+Z'),
        act('Redo', () => bench.redo(), session.undone.length, 'Ctrl+Y'),
        act('Follow', () => bench.propagate(), bench.facts?.slices.length,
          'Follow the structure through the slices (F)'))
    );
  }

  #askText() {
    const text = this.#text.value.trim();
    const { slice } = this.controller;
    if (text && slice !== undefined) {
      this.#bench.text(slice, text);
    }
  }

  #measured(bench) {
    const { facts, session, structures } = bench;
    const findings = [...new Set([...(facts?.findings ?? []), ...session.findings, ...(session.image?.findings ?? [])])];
    if (!facts && !findings.length) {
      return null;
    }
    const goTo = facts?.diameter_slice;
    return h(
      'section',
      { className: 'oncoseg-measured' },
      facts && h('h3', {}, h('span', {}, h('i', { className: 'oncoseg-dot', style: `background:${css(structures.active.colour)}` }), facts.name),
        Number.isInteger(goTo) && button(`slice ${this.controller.numberOf(goTo)}`, () => this.controller.show(goTo), { className: 'oncoseg-link', title: 'Show the slice of the diameters' })),
      facts && h('dl', {}, rows(facts, slice => this.controller.numberOf(slice)).flatMap(([label, value]) => [h('dt', {}, label), h('dd', { data: { row: label } }, value)])),
      findings.length > 0 && h('ul', { className: 'oncoseg-findings' }, findings.map(finding => h('li', {}, finding)))
    );
  }

  #saving(bench) {
    const { session, saved } = bench;
    const choice = Object.entries(FORMATS).map(([format, name]) =>
      h('label', {}, h('input', {
        type: 'checkbox',
        checked: this.#formats.has(format),
        onchange: event => {
          this.#formats[event.target.checked ? 'add' : 'delete'](format);
          this.draw();
        },
      }), name)
    );
    const canSave = session.phase === 'ready' && session.structures.some(({ voxels }) => voxels) && this.#formats.size;
    const names = saved?.objects.map(({ format }) => FORMATS[format] ?? format).join(', ');
    const notes = [...new Set(saved?.objects.flatMap(({ notes: said }) => said ?? []) ?? [])];
    return h(
      'section',
      {},
      h('h3', {}, 'Save'),
      h('div', { className: 'oncoseg-row' }, h('span', { className: 'oncoseg-formats' }, choice),
        button('Save', () => this.save(), { className: 'oncoseg-button oncoseg-main', disabled: !canSave, title: 'Store in the archive and read it back (Ctrl+S)' })),
      saved && h('p', { className: 'oncoseg-saved', role: 'status' }, `Saved and read back: ${names}. Reload the page to see it in the study.`),
      notes.length > 0 && h('ul', { className: 'oncoseg-findings' }, notes.map(note => h('li', {}, note)))
    );
  }

  #shortcuts() {
    const list = KEYS.filter(({ label }) => label).flatMap(({ label, does }) => [h('dt', {}, h('kbd', {}, label)), h('dd', {}, does)]);
    return h('details', { className: 'oncoseg-keys' }, h('summary', {}, 'Shortcuts'), h('dl', {}, list),
      h('p', { className: 'oncoseg-hint' }, 'Alt + click is the other kind of click. [ and ] change the size of the brush.'));
  }
}

const PATHS = {
  eye: 'M1 8s2.5-5 7-5 7 5 7 5-2.5 5-7 5-7-5-7-5zM8 5.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4z',
  hidden: 'M2 2l12 12M1 8s2.5-5 7-5 7 5 7 5-2.5 5-7 5-7-5-7-5z',
  remove: 'M3 3l10 10M13 3L3 13',
};

function icon(name, title, run) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return button(svg, event => {
    event.stopPropagation();
    run();
  }, { className: 'oncoseg-icon', title, 'aria-label': title });
}
