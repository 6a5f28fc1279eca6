// The server's API (/api/v1): one function for each call, every failure a ServerError.

import { ServerError, failureOf } from './failures.js';

/** What this page speaks; the server refuses another number, and the page another server. */
export const API_VERSION = 1;

const TOKEN = 'oncoseg-token';
const ANSWER_MS = 120_000;
const SHORT_MS = 15_000;

/** Move the token from the address (`#token=…`) into this tab's storage; the stored one where the address has none. */
export function takeToken(location, history, storage) {
  const found = /[#&]token=([^&]+)/.exec(location.hash ?? '');
  if (found) {
    storage.setItem(TOKEN, decodeURIComponent(found[1]));
    history.replaceState(history.state, '', location.pathname + location.search);
  }
  return storage.getItem(TOKEN) ?? '';
}

/** The header that carries the token; empty where there is none. */
export const authorization = token => (token ? { Authorization: `Bearer ${token}` } : {});

/**
 * Calls of the API. `fetch` and `token` are given so that tests need no browser.
 * A session is `{session, lease}`, as `open` answers.
 */
export function createApi({ fetch, token = () => '', base = '/api/v1' }) {
  async function send(method, path, { body, lease, signal, keepalive, limit = SHORT_MS } = {}) {
    const headers = { ...authorization(token()), 'X-OncoSeg-API': String(API_VERSION), Accept: 'application/json, text/event-stream' };
    if (body !== undefined) {
      headers['Content-Type'] = 'application/json';
    }
    if (lease) {
      headers['X-OncoSeg-Lease'] = lease;
    }
    const abort = new AbortController();
    const timer = limit && setTimeout(() => abort.abort('limit'), limit);
    const cancel = () => abort.abort('cancelled');
    signal?.addEventListener('abort', cancel);
    try {
      return await fetch(base + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: abort.signal,
        cache: 'no-store',
        keepalive,
      });
    } catch {
      throw new ServerError(signal?.aborted ? 'cancelled' : 'unreachable');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
    }
  }

  async function call(method, path, options) {
    const response = await send(method, path, options);
    const body = await json(response);
    if (!response.ok) {
      throw failureOf(response.status, body);
    }
    if (body === undefined && response.status === 200) {
      throw new ServerError('wrong_server', '', response.status);
    }
    return body;
  }

  const of = (session, path = '') => `/sessions/${encodeURIComponent(session.session)}${path}`;
  const answer = (session, path, body, limit) => call('POST', of(session, path), { body, lease: session.lease, limit });

  return {
    server: () => call('GET', '/server'),
    open: request => call('POST', '/sessions', { body: request, limit: 0 }),
    step: (session, step) => answer(session, '/steps', step, ANSWER_MS),
    undo: session => answer(session, '/undo', undefined, 0),
    redo: session => answer(session, '/redo', undefined, 0),
    save: (session, request) => call('POST', of(session, '/save'), { body: request, lease: session.lease, limit: 0 }),
    heartbeat: session => call('POST', of(session, '/heartbeat'), { lease: session.lease }),
    cancel: session => call('POST', of(session, '/cancel'), { lease: session.lease }),
    view: (session, view) => call('POST', of(session, '/view'), { body: view, lease: session.lease }),
    close: session => call('DELETE', of(session), { lease: session.lease, keepalive: true }),

    /** A step that is answered with events; `onProgress({done, total})`. Resolves to the answer. */
    async follow(session, step, onProgress) {
      const response = await send('POST', of(session, '/steps'), { body: step, lease: session.lease, limit: 0 });
      if (!response.ok) {
        throw failureOf(response.status, await json(response));
      }
      if (!(response.headers.get('content-type') ?? '').includes('event-stream')) {
        return json(response);
      }
      for await (const { event, data } of events(response.body)) {
        if (event === 'progress') {
          onProgress?.(data);
        } else if (event === 'answer') {
          return data;
        } else if (event === 'failure') {
          throw failureOf(response.status, data);
        }
      }
      throw new ServerError('unreachable', 'The server went away while it followed the structure.');
    },
  };
}

/** The events of a stream (text/event-stream) as `{event, data}`, `data` parsed as JSON. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      text = (text + value).replaceAll('\r\n', '\n');
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) {
          yield event;
        }
      }
    }
  } catch (error) {
    if (error instanceof TypeError) {
      throw new ServerError('unreachable', 'The server went away while it followed the structure.');
    }
    throw error;
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function parse(block) {
  let event = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) {
      event = line.slice(6).trim();
    } else if (line.startsWith('data:')) {
      data.push(line.slice(5).trimStart());
    }
  }
  return data.length ? { event, data: JSON.parse(data.join('\n')) } : undefined;
}

async function json(response) {
  try {
    return await response.json();
  } catch {
    return undefined;
  }
}
