// What a failure means to the person at the viewer, in one sentence with what to do.
//
// The server's own sentence is shown where it sent one: it knows more. These are for answers that came without one,
// from something between (a proxy, another program on that port) or from nowhere.

const SENTENCES = {
  bad_request: 'The server did not understand this request; reload the page, and if it stays so, update the server.',
  busy: 'The server serves as many sessions as it may; close one, or try again in a minute.',
  cancelled: 'Cancelled; the structure is as it was before.',
  disk_full: 'The disk of the server is full and nothing was saved; free space there and save again.',
  lease_expired: 'The session was closed because nobody used it.',
  lease_taken: 'Another page took this session over; open it again here to go on.',
  model_missing: 'The model of this session is not installed on the server; choose another model.',
  not_found: 'The archive has no such series any more; reload the study list.',
  not_stored: 'The archive did not take the result, and nothing was saved; look at the log of the archive.',
  other_image: 'The server read another image than this viewer shows; reload the page before you draw anything.',
  out_of_memory: 'The memory of the server or its GPU is full; close other sessions, or try again.',
  prompt_refused: 'The model did not take this prompt.',
  source_unreachable: 'The archive (PACS) does not answer the server; check that it runs, then try again.',
  too_large: 'This is larger than the server allows.',
  unauthorized: 'The server refuses the token; open the page with the address that oncoseg serve printed.',
  unknown_session: 'The server does not know this session any more.',
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
  429: 'busy',
  502: 'unreachable',
  503: 'busy',
  504: 'unreachable',
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
  const code = BY_STATUS[status] ?? (status >= 500 ? 'server_failed' : 'bad_request');
  if (code === 'server_failed') {
    return new ServerError(code, `The server failed (HTTP ${status}); its log says why.`, status);
  }
  return new ServerError(code, '', status);
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
