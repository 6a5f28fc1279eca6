// Measurements as people read them.

/** "56.3 × 41.0 mm"; one diameter alone where there is no short one; undefined without any. */
export function diameters({ long, short }) {
  if (!long) {
    return undefined;
  }
  return short ? `${long.mm.toFixed(1)} × ${short.mm.toFixed(1)} mm` : `${long.mm.toFixed(1)} mm`;
}

/** Rows `[label, value]` of a structure, only those that it has. */
export function rows(structure) {
  const { area_mm2: area, volume_ml: volume, mean, unit, score, presence, slices } = structure;
  return [
    ['Long × short', diameters(structure)],
    ['Area on the slice', number(area, value => (value >= 1000 ? `${fixed(value / 100, 1)} cm²` : `${fixed(value, 0)} mm²`))],
    ['Volume', number(volume, value => `${fixed(value, value < 10 ? 2 : 1)} ml`)],
    ['Mean', number(mean, value => `${fixed(value, 1)}${unit ? ` ${unit}` : ''}`)],
    ['Score', number(score, value => fixed(value, 2))],
    ['Presence', number(presence, value => fixed(value, 2))],
    ['Slices', range(slices)],
  ].filter(([, value]) => value !== undefined);
}

/** Slices counted from 1, as the viewer counts: "12-31 (20)", with its gaps told: "12-31 (18)". */
export function range(slices) {
  if (!slices?.length) {
    return undefined;
  }
  const [first, last] = [Math.min(...slices) + 1, Math.max(...slices) + 1];
  return first === last ? `${first}` : `${first}-${last} (${slices.length})`;
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
