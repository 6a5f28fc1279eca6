// The mode: OHIF's segmentation mode with OncoSeg's panel first.

const PANEL = '@oncoseg/extension.panelModule.oncoseg';
const LABELMAP = '@ohif/extension-cornerstone.panelModule.panelSegmentationWithToolsLabelMap';

export default {
  id: '@oncoseg/mode',

  async modeFactory({ loadModules }) {
    const [segmentation, basic] = await loadModules(['@ohif/mode-segmentation', '@ohif/mode-basic']);
    const base = segmentation.modeInstance;
    const [route] = base.routes;
    const layout = route.layoutInstance;
    return {
      ...base,
      id: '@oncoseg/mode',
      routeName: 'oncoseg',
      displayName: 'OncoSeg',
      extensions: { ...base.extensions, '@oncoseg/extension': '^0.1.0' },
      hangingProtocol: 'default',
      // Without what the segmentation mode adds: it leaves our panel as soon as a labelmap appears.
      onModeEnter: basic.modeInstance.onModeEnter,
      routes: [
        {
          ...route,
          path: 'oncoseg',
          layoutTemplate() {
            return {
              id: layout.id,
              props: { ...layout.props, leftPanels: [...layout.props.leftPanels], rightPanels: [PANEL, LABELMAP] },
            };
          },
        },
      ],
    };
  },
};
