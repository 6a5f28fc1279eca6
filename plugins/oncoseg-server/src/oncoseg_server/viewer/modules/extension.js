// OncoSeg's extension of OHIF: the token, the panel, the shortcuts. Plain modules, no build.

import { authorization, createApi, takeToken } from './api.js';
import { Controller } from './controller.js';
import { failureOf } from './failures.js';
import { Panel } from './panel.js';
import { listen } from './shortcuts.js';

const token = takeToken(window.location, window.history, window.sessionStorage);
let controller = null;
let stopListening = () => undefined;

// OHIF hands a runtime extension no React. An element of a type that is a string needs none.
const element = (type, ref, props = {}) => ({
  $$typeof: Symbol.for('react.element'),
  type,
  key: null,
  ref,
  props,
  _owner: null,
  _store: {},
});

let panel = null;

function draw(place) {
  panel?.destroy();
  panel = place ? new Panel(place, () => controller) : null;
}

export default {
  id: '@oncoseg/extension',

  preRegistration({ servicesManager }) {
    servicesManager.services.userAuthenticationService.setServiceImplementation({
      getAuthorizationHeader: () => authorization(token),
    });
    showStyle();
    window.addEventListener('oncoseg:http', event => showFailure(event.detail));
  },

  onModeEnter({ servicesManager, extensionManager, commandsManager }) {
    // Only OncoSeg's mode has the panel; the services of a mode are set up after this.
    if (!window.location.pathname.split('/').includes('oncoseg')) {
      return;
    }
    queueMicrotask(() => {
      controller?.exit();
      const api = createApi({ fetch: window.fetch.bind(window), token: () => token });
      controller = new Controller({ servicesManager, extensionManager, commandsManager, api });
      controller.enter();
      panel?.follow();
      stopListening();
      stopListening = listen(window, () => controller, () => panel);
    });
  },

  onModeExit() {
    stopListening();
    controller?.exit();
    controller = null;
  },

  getPanelModule() {
    return [
      {
        name: 'oncoseg',
        iconName: 'tab-segmentation',
        iconLabel: 'OncoSeg',
        label: 'OncoSeg',
        component: () => element('div', draw, { className: 'oncoseg-panel' }),
      },
    ];
  },
};

function showStyle() {
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = '/extension/panel.css';
  document.head.append(link);
}

// What the archive answered to the viewer itself, on the study list too, where there is no panel.
function showFailure(status) {
  const failure = failureOf(status || 502, undefined);
  if (!['unauthorized', 'source_unreachable', 'unreachable', 'busy'].includes(failure.code)) {
    return;
  }
  const before = document.querySelector('.oncoseg-banner');
  const banner = before ?? document.createElement('div');
  banner.className = 'oncoseg-banner';
  banner.setAttribute('role', 'alert');
  banner.textContent = failure.message;
  document.body.append(banner);
}
