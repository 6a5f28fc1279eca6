// The prompts on the image.

/** The hints that count of a structure: a step that replaces takes the place of those before it on its slice. */
export function hintsOf(steps, name) {
  let hints = [];
  for (const step of steps) {
    if (step.structure !== name) {
      continue;
    }
    if (step.step === 'remove') {
      hints = [];
    } else if (step.step === 'prompt') {
      if (step.replace) {
        hints = hints.filter(({ slice }) => slice !== step.slice);
      }
      hints.push(...step.hints.map(hint => ({ kind: hint.kind, slice: step.slice, hint })));
    }
  }
  return hints;
}
