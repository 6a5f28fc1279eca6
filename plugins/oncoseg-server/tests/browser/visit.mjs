// One visit of the viewer, from the study list to a saved segmentation and back. Prints what was seen as JSON.
//
// node visit.mjs '{"playwright", "chromium", "origin", "source", "study", "sop", "pixel", "beside", "pictures"}'

import { Viewer } from './viewer.mjs';

const plan = JSON.parse(process.argv[2]);
const started = Date.now();
const seen = { seconds: {} };
const mark = name => (seen.seconds[name] = (Date.now() - started) / 1000);
const viewer = await Viewer.start(plan);
const picture = name => plan.pictures && viewer.page.screenshot({ path: `${plan.pictures}/${name}.png` });

try {
  // The study list, and from there into the mode.
  await viewer.open(`/#token=${plan.token}`);
  await viewer.page.getByText(plan.patient).first().click();
  await picture('ohif-studies');
  await viewer.page.getByText('OncoSeg', { exact: true }).first().click();
  await viewer.ready();
  seen.address = viewer.page.url();
  mark('ready');

  await viewer.show(plan.sop);
  await viewer.tool('include');
  seen.before = { colour: await viewer.colour(plan.beside) };
  seen.click = await viewer.answered(() => viewer.click(plan.pixel));
  seen.clicked = { masks: await viewer.masks(), panel: await viewer.panel() };
  seen.clicked.colour = await viewer.colour(plan.beside);
  await picture('ohif-click');
  mark('click');

  await viewer.answered(() => viewer.press('Undo'));
  seen.undone = { masks: await viewer.masks(), colour: await viewer.colour(plan.beside) };
  await viewer.answered(() => viewer.page.keyboard.press('Control+y'));
  seen.redone = { masks: await viewer.masks() };
  mark('undo, redo');

  // OHIF's own brush: what it draws is an edit.
  await viewer.press('Brush');
  const { from, to } = plan.stroke;
  seen.stroke = await viewer.answered(() => viewer.drag(from, to));
  seen.edited = { masks: await viewer.masks(), panel: await viewer.panel() };
  await picture('ohif-edit');
  await viewer.answered(() => viewer.press('Undo'));
  seen.unedited = { masks: await viewer.masks() };
  mark('brush');

  await viewer.answered(() => viewer.press('Follow'));
  seen.followed = { masks: await viewer.masks(), panel: await viewer.panel() };
  await picture('ohif-volume');
  mark('follow');

  seen.save = await viewer.answered(() => viewer.press('Save'));
  seen.saved = await viewer.panel();
  await picture('ohif-saved');
  mark('save');

  // Three planes: a click in another plane is a prompt on its slice. OHIF's first click chooses the viewport.
  await viewer.tool('include');
  await viewer.page.evaluate(() => window.commandsManager.run('setHangingProtocol', { protocolId: 'mpr' }));
  const coronal = await viewer.inPlane('mpr-coronal', plan.world);
  await viewer.page.mouse.click(...coronal);
  await viewer.page.waitForFunction(() => window.services.viewportGridService.getActiveViewportId() === 'mpr-coronal');
  await viewer.page.waitForTimeout(1_000);
  seen.coronal = await viewer.answered(() => viewer.page.mouse.click(...coronal));
  await picture('ohif-planes');
  mark('planes');

  // A new page: what was not saved is taken up again, and the SEG is a series of the study now.
  await viewer.page.reload();
  await viewer.ready();
  await viewer.page.waitForSelector('.oncoseg-notice');
  seen.again = await viewer.panel();
  const seg = viewer.page.locator('[data-cy="study-browser-thumbnail-no-image"]').filter({ hasText: 'SEG' }).first();
  await seg.dblclick();
  const load = viewer.page.getByRole('button', { name: 'Yes' });
  await load.click({ timeout: 60_000 }).catch(() => undefined);
  await viewer.page.waitForFunction(() =>
    window.services.segmentationService.getSegmentations().some(({ segmentationId }) => !segmentationId.startsWith('oncoseg-'))
  );
  await viewer.page.waitForTimeout(1_000);
  seen.reloaded = (await viewer.labelmaps()).filter(({ id }) => !id.startsWith('oncoseg-'));
  await picture('ohif-reloaded');
  mark('reload');
} catch (error) {
  seen.failed = error.message;
  seen.panel = await viewer.panel().catch(() => null);
  await viewer.page.screenshot({ path: `${plan.pictures ?? '.'}/failed.png` }).catch(() => undefined);
}
seen.origins = [...viewer.requests];
seen.problems = viewer.problems;
await viewer.close();
console.log(JSON.stringify(seen));
