// The prompt tools as tools of cornerstone, so that OHIF's toolbar and ours exclude each other.

export const TOOLS = {
  include: 'OncoSegInclude',
  exclude: 'OncoSegExclude',
  box: 'OncoSegBox',
};
const SMALLEST_BOX = 4; // canvas pixels: less is a click with an unsteady hand

/**
 * Add the tools to cornerstone and to every tool group.
 * `on.point(viewportId, world, positive)` and `on.box(viewportId, world, world)` are the prompts;
 * `on.drawing(viewportId, canvas, canvas)` the box while it is drawn (undefined at its end).
 */
export function addTools(libraries, toolGroupService, on) {
  const { cornerstoneTools } = libraries;
  for (const [kind, name] of Object.entries(TOOLS)) {
    const tool = toolClass(cornerstoneTools.BaseTool, name, kind, on);
    if (!cornerstoneTools.state?.tools?.[name]) {
      cornerstoneTools.addTool(tool);
    }
  }
  for (const id of toolGroupService.getToolGroupIds()) {
    if (id !== 'volume3d') {
      toolGroupService.addToolsToToolGroup(id, {
        passive: Object.values(TOOLS).map(toolName => ({ toolName })),
      });
    }
  }
}

/** Which of our tools a tool name is; undefined for another's. */
export const toolKind = name => Object.keys(TOOLS).find(kind => TOOLS[kind] === name);

function toolClass(BaseTool, name, kind, on) {
  const Tool = class extends BaseTool {
    static toolName = name;

    constructor(props = {}, defaults = { supportedInteractionTypes: ['Mouse', 'Touch'], configuration: {} }) {
      super(props, defaults);
      this.start = null;
    }

    preMouseDownCallback = event => this.#begin(event);
    preTouchStartCallback = event => this.#begin(event);
    mouseDragCallback = event => this.#drag(event);
    touchDragCallback = event => this.#drag(event);
    mouseUpCallback = event => this.#end(event);
    touchEndCallback = event => this.#end(event);

    #begin({ detail }) {
      if (kind === 'box') {
        this.start = detail.currentPoints;
      } else {
        const isInclude = kind === 'include';
        const isOpposite = Boolean(detail.event?.altKey);
        on().point(detail.viewportId, detail.currentPoints.world, isInclude !== isOpposite);
      }
      return true;
    }

    #drag({ detail }) {
      if (this.start) {
        on().drawing(detail.viewportId, this.start.canvas, detail.currentPoints.canvas);
      }
    }

    #end({ detail }) {
      const { start } = this;
      this.start = null;
      if (!start) {
        return;
      }
      on().drawing(detail.viewportId);
      const end = detail.currentPoints;
      const sides = [0, 1].map(axis => Math.abs(end.canvas[axis] - start.canvas[axis]));
      if (Math.min(...sides) >= SMALLEST_BOX) {
        on().box(detail.viewportId, start.world, end.world);
      }
    }
  };
  return Tool;
}
