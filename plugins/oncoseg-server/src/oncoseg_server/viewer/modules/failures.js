// What a failure means to the person at the viewer, in one sentence with what to do.
//
// The server's own sentence is shown where it sent one: it knows more. These are for answers that came without one,
// from something between (a proxy, another program on that port) or from nowhere.

const SENTENCES = {
  bad_request: 'The server did not understand this request; reload the page, and if it stays so, update the server.',
  busy: 'The server has too much to do; try again in a minute.',
  cancelled: 'Cancelled; the structure is as it was before.',
  damaged: 'The archive sent files that cannot be read; look at the series there.',
  disk_full: 'The disk of the server is full and nothing was saved; free space there and save again.',
  forbidden_host: 'The server does not answer to the name in this address; open the address that oncoseg serve printed.',
  forbidden_origin: 'The server does not answer to pages of other sites; open its own page.',
  image_refused: 'The server cannot use this series.',
  internal: 'The server failed; its log says why.',
  lease_expired: 'The session was closed because nobody used it.',
  lease_taken: 'Another page took this session over; open it again here to go on.',
  model_unavailable: 'The model of this session cannot be loaded on the server; choose another one.',
  not_found: 'The archive has no such series any more; go back to the study list.',
  not_stored: 'The archive did not take the result and nothing was saved; look at the log of the archive.',
  other_image: 'The server read another image than this viewer shows; reload the page before you draw anything.',
  out_of_memory: 'The memory of the server or of its GPU is full; close other sessions and try again.',
  out_of_step: 'The server and this page count different steps; open the session again.',
  prompt_refused: 'The model did not take this prompt.',
  source_refused: 'The archive (PACS) refuses the server; check the credentials in its settings.',
  source_unreachable: 'The archive (PACS) does not answer the server; check that it runs, then try again.',
  timed_out: 'The server took longer than it may; try again.',
  too_large: 'This is larger than the server allows.',
  too_many_sessions: 'The server serves as many sessions as it may; close one, or try again in a minute.',
  unauthorized: 'The server refuses the token; open the page with #token= and the right one at the end of its address.',
  unknown_model: 'The server has no such model; choose another one.',
  unknown_session: 'The server does not know this session any more.',
  unknown_source: 'The server has no such source any more; reload the page.',
  unreachable: 'The server does not answer; check that oncoseg serve runs and that the address and port are right.',
  version_mismatch: 'This page and the server are of different versions; reload the page (Ctrl+Shift+R).',
  wrong_server: 'Something other than OncoSeg answers at this address; check the port of oncoseg serve.',
};

const BY_STATUS = {
  401: 'unauthorized',
  403: 'unauthorized',
  404: 'wrong_server',
  409: 'lease_taken',
  410: 'lease_expired',
  413: 'too_large',
  422: 'prompt_refused',
  424: 'source_unreachable',
  429: 'too_many_sessions',
  502: 'unreachable',
  503: 'busy',
  504: 'timed_out',
  507: 'disk_full',
};

/** A call that failed: `code` for programs, `message` for people, `status` 0 where nothing answered. */
export class ServerError extends Error {
  constructor(code, message = '', status = 0) {
    super(message || SENTENCES[code] || `The server answered with the error ${code}.`);
    this.name = 'ServerError';
    this.code = code;
    this.status = status;
  }
}

/** The error of an answer: the server's `Failure` where its body is one. */
export function failureOf(status, body) {
  if (body && typeof body === 'object' && typeof body.code === 'string') {
    return new ServerError(body.code, sentence(body.message), status);
  }
  return new ServerError(BY_STATUS[status] ?? (status >= 500 ? 'internal' : 'bad_request'), '', status);
}

/** The session is gone but its steps are here: it can be opened again with them. */
export const isLost = error => error instanceof ServerError && ['lease_expired', 'unknown_session'].includes(error.code);

/** Nothing answers; it may come back. */
export const isUnreachable = error => error instanceof ServerError && error.code === 'unreachable';

/** First letter large, one full stop. */
export function sentence(text) {
  const line = String(text ?? '').replace(/\s+/g, ' ').trim();
  if (!line) {
    return '';
  }
  const begun = line[0].toUpperCase() + line.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
