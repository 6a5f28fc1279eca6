// The prompt tools as tools of cornerstone, so that OHIF's toolbar and ours exclude each other.

export const TOOLS = {
  include: 'OncoSegInclude',
  exclude: 'OncoSegExclude',
  box: 'OncoSegBox',
};
const SMALLEST_BOX = 4; // canvas pixels: less is a click with an unsteady hand
// Cornerstone keeps the tools for good, a controller lives as long as its visit of the mode.
let prompts = null;

/** Where a click of the mouse with a tool is: `{world, positive}`; undefined where it is not one of ours. */
export function clickOf(event, viewport, kind) {
  if (!['include', 'exclude'].includes(kind) || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) {
    return undefined;
  }
  const { left, top } = viewport.canvas.getBoundingClientRect();
  const world = viewport.canvasToWorld([event.clientX - left, event.clientY - top]);
  return { world, positive: (kind === 'include') !== event.altKey };
}

/**
 * Add the tools to cornerstone and to every tool group.
 * `on.point(viewportId, world, positive)` and `on.box(viewportId, world, world)` are the prompts;
 * `on.drawing(viewportId, canvas, canvas)` the box while it is drawn (undefined at its end).
 */
export function addTools(libraries, toolGroupService, on) {
  const { cornerstoneTools } = libraries;
  for (const [kind, name] of Object.entries(TOOLS)) {
    if (!prompts) {
      cornerstoneTools.addTool(toolClass(cornerstoneTools.BaseTool, name, kind));
    }
  }
  prompts = on;
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

function toolClass(BaseTool, name, kind) {
  const Tool = class extends BaseTool {
    static toolName = name;

    constructor(props = {}, defaults = { supportedInteractionTypes: ['Mouse', 'Touch'], configuration: {} }) {
      super(props, defaults);
      this.start = null;
    }

    // Clicks of a mouse come from the viewport's own element: cornerstone waits 400 ms for a second one.
    preMouseDownCallback = event => (kind === 'box' ? this.#begin(event) : true);
    preTouchStartCallback = event => this.#begin(event);
    mouseDragCallback = event => this.#drag(event);
    touchDragCallback = event => this.#drag(event);
    mouseUpCallback = event => this.#end(event);
    touchEndCallback = event => this.#end(event);

    #begin({ detail }) {
      if (kind === 'box') {
        this.start = detail.currentPoints;
      } else {
        prompts.point(detail.viewportId, detail.currentPoints.world, kind === 'include');
      }
      return true;
    }

    #drag({ detail }) {
      if (this.start) {
        prompts.drawing(detail.viewportId, this.start.canvas, detail.currentPoints.canvas);
      }
    }

    #end({ detail }) {
      const { start } = this;
      this.start = null;
      if (!start) {
        return;
      }
      prompts.drawing(detail.viewportId);
      const end = detail.currentPoints;
      const sides = [0, 1].map(axis => Math.abs(end.canvas[axis] - start.canvas[axis]));
      if (Math.min(...sides) >= SMALLEST_BOX) {
        prompts.box(detail.viewportId, start.world, end.world);
      }
    }
  };
  return Tool;
}
