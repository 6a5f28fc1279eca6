// Measurements as people read them.

/** "56.3 × 41.0 mm"; one diameter alone where there is no short one; undefined without any. */
export function diameters({ long, short }) {
  if (!long) {
    return undefined;
  }
  return short ? `${long.mm.toFixed(1)} × ${short.mm.toFixed(1)} mm` : `${long.mm.toFixed(1)} mm`;
}

/** Rows `[label, value]` of a structure, only those that it has. `shown` gives a slice's number in the viewer. */
export function rows(structure, shown = slice => slice + 1) {
  const { area_mm2: area, volume_ml: volume, mean, unit, score, presence, slices } = structure;
  return [
    ['Long × short', diameters(structure)],
    ['Area on the slice', number(area, value => (value >= 1000 ? `${fixed(value / 100, 1)} cm²` : `${fixed(value, 0)} mm²`))],
    ['Volume', number(volume, value => `${fixed(value, value < 10 ? 2 : 1)} ml`)],
    ['Mean', number(mean, value => `${fixed(value, 1)}${unit ? ` ${unit}` : ''}`)],
    ['Score', number(score, value => fixed(value, 2))],
    ['Presence', number(presence, value => fixed(value, 2))],
    ['Slices', range(slices.map(shown))],
  ].filter(([, value]) => value !== undefined);
}

/** "12-31 (20)": the first and the last, and how many there are. */
export function range(numbers) {
  if (!numbers?.length) {
    return undefined;
  }
  const [first, last] = [Math.min(...numbers), Math.max(...numbers)];
  return first === last ? `${first}` : `${first}-${last} (${numbers.length})`;
}

/** "340 ms (encode 210, decode 95, …)" */
export function latency(timing) {
  const stages = Object.entries(timing ?? {});
  if (!stages.length) {
    return undefined;
  }
  const total = timing.total ?? stages.reduce((sum, [, ms]) => sum + ms, 0);
  const parts = stages.filter(([name, ms]) => name !== 'total' && ms >= 0.5);
  const list = parts.map(([name, ms]) => `${name.replaceAll('_', ' ')} ${Math.round(ms)}`).join(', ');
  return `${Math.round(total)} ms${list ? ` (${list})` : ''}`;
}

/** The diameters as lines to draw. */
export function lines(structure, colour) {
  return [
    ['long', structure.long],
    ['short', structure.short],
  ]
    .filter(([, line]) => line)
    .map(([, line]) => ({ ends: line.ends_lps_mm, label: `${line.mm.toFixed(1)} mm`, colour }));
}

const fixed = (value, digits) => value.toFixed(digits);
const number = (value, format) => (value === null || value === undefined ? undefined : format(value));
