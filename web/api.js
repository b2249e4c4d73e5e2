// Input: requests as plain objects. Output: the server's responses, or an ApiError. Keeps the API key in
// sessionStorage. Knows nothing of conversations, elements or languages.

import { json } from './text.js';

const KEY = 'tealight.key';
let key = '';
try { key = sessionStorage.getItem(KEY) || ''; } catch { /* kept in memory only */ }

let askForKey = async () => null;
let asking = null;

/** `ask(rejected)` is called on a 401, and resolves to a key, or to null if the user declines. */
export const onKeyNeeded = (ask) => { askForKey = ask; };

export class ApiError extends Error {
	constructor(status, info = {}) {
		super(String(info.message || `HTTP ${status}`));
		this.status = status;
		this.type = String(info.type || '');
		this.info = info;
	}
}

async function newKey(used) {
	if (used !== key) return true; // another request has asked already
	asking ??= askForKey(used !== '').finally(() => { asking = null; });
	const given = await asking;
	if (given === null) return false;
	key = given;
	try { sessionStorage.setItem(KEY, key); } catch { /* kept in memory only */ }
	return true;
}

async function failure(response) {
	const info = await response.json().then((body) => body?.error, () => null);
	return new ApiError(response.status, info && typeof info === 'object' ? info : {});
}

/** `quiet` never asks for a key: the poll must not open dialogs again and again. */
async function request(path, { body, signal, quiet = false } = {}) {
	for (;;) {
		const used = key;
		const headers = used ? { Authorization: `Bearer ${used}` } : {};
		if (body) headers['Content-Type'] = 'application/json';
		const response = await fetch(new URL(path, document.baseURI), {
			method: body ? 'POST' : 'GET', headers, signal, cache: 'no-store', body: body && json(body),
		});
		if (response.ok) return response;
		const error = await failure(response);
		if (response.status !== 401 || quiet || !(await newKey(used))) throw error;
	}
}

export const health = async () => { await request('health', { quiet: true, signal: AbortSignal.timeout(8000) }); };
export const props = async (quiet) => (await request('props', { quiet })).json();

/** The conversations that the program keeps, as text; '' if the browser has to keep them. */
export const chats = async (body) => (await request('chats', { body })).text();

export async function render(text) {
	const { blocks } = await (await request('render', { body: { text }, quiet: true })).json();
	if (!Array.isArray(blocks)) throw new ApiError(200, { message: 'render: no blocks' });
	return blocks.map(String);
}

/** Yields the parsed chunks of one streamed answer; returns at [DONE] or at the end of the stream. */
export async function* chat(body, signal) {
	const response = await request('v1/chat/completions', { body, signal });
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = '';
	let data = [];
	try {
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return;
			const lines = (rest + value).split('\n');
			rest = lines.pop();
			for (const raw of lines) {
				const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
				if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
				if (line !== '' || !data.length) continue; // other fields and comments carry nothing for us
				const text = data.join('\n');
				data = [];
				if (text === '[DONE]') return;
				const chunk = JSON.parse(text);
				if (chunk.error) throw new ApiError(chunk.error.code || 500, chunk.error);
				yield chunk;
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}
