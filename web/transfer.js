// Input: conversations, or an untrusted file. Output: the text of an export, or conversations rebuilt from known fields
// of the right type, or else an ImportError {reason, values}. Content stays text. Knows nothing of the store or of
// elements.
import { FIELDS, THINKING, inRange } from './options.js';
import { FILE_BYTES_MAX, CHATS_MAX } from './limits.js';
import { cut, json, title, wellFormed } from './text.js';

export const TITLE_UNITS = 200;
const MAX = { conversations: CHATS_MAX, messages: 1000000, content: FILE_BYTES_MAX };
const FORMAT = 'tealight-chats';

export class ImportError extends Error {
	constructor(reason, values = {}) { super(reason); this.reason = reason; this.values = values; }
}

const META_TEXT = ['finish', 'model', 'error', 'error_message'];
const META_NUMBER = ['thought_seconds', 'prompt_tokens', 'completion_tokens', 'prompt_per_second', 'predicted_per_second', 'n_ctx'];

export const plain = ({ id, title, created, updated, settings, messages }) => ({ id, title, created, updated, settings, messages });
const bytes = (text) => new Blob([text]).size;

/** Splits conversations into parts of at most `most` bytes of text each, unless a single one is longer. */
export function parts(all, most) {
	const out = [];
	let room = 0;
	for (const one of all) {
		const size = bytes(json(plain(one), 1)) * 1.02 + 100;
		if (size > room || !out.length) { out.push([]); room = most; }
		out.at(-1).push(one);
		room -= size;
	}
	return out;
}

/** The texts of an export: one, unless it would exceed the import limit. */
export const exportTexts = (all) => parts(all, FILE_BYTES_MAX - 1000).map((some) => {
	const file = { format: FORMAT, version: 1, conversations: some.map(plain) };
	const text = json(file, 1);
	return bytes(text) <= FILE_BYTES_MAX ? text : json(file);
});

const bad = (path, what, values) => { throw new ImportError('type', { path, what, values }); };
const object = (value, path) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? value : bad(path, 'object'));
function short(value, path, most) {
	if (value.length > most) throw new ImportError('long', { path, n: most });
	return value;
}
const list = (value, path, most) => (Array.isArray(value) ? short(value, path, most) : bad(path, 'list'));
const text = (value, path, most) => (typeof value === 'string' ? wellFormed(short(value, path, most)) : bad(path, 'text'));
function time(value, path, otherwise) {
	if (value === undefined) return otherwise;
	return typeof value === 'number' && value >= 0 && value <= 8.64e15 ? value : bad(path, 'number');
}

function settings(value, path) {
	const out = {};
	if (value === undefined) return out;
	object(value, path);
	if (value.system !== undefined) out.system = text(value.system, `${path}.system`, MAX.content);
	if (value.thinking !== undefined) out.thinking = THINKING.includes(value.thinking) ? value.thinking : bad(`${path}.thinking`, 'choice', { values: THINKING.join(', ') });
	for (const field of FIELDS) {
		const given = value[field.key];
		if (given === undefined) continue;
		if (!inRange(field, given)) bad(`${path}.${field.key}`, 'range', { min: field.min, max: field.max });
		out[field.key] = given;
	}
	return out;
}

function meta(value, path) {
	const out = {};
	if (value === undefined) return out;
	object(value, path);
	for (const key of META_TEXT) if (value[key] !== undefined) out[key] = text(value[key], `${path}.${key}`, 2000);
	for (const key of META_NUMBER) {
		if (value[key] === undefined) continue;
		if (typeof value[key] !== 'number' || !Number.isFinite(value[key])) bad(`${path}.${key}`, 'number');
		out[key] = value[key];
	}
	return out;
}

function message(value, path, now, id) {
	object(value, path);
	if (value.role !== 'user' && value.role !== 'assistant') bad(`${path}.role`, 'role');
	return {
		id, role: value.role, content: text(value.content, `${path}.content`, MAX.content),
		created: time(value.created, `${path}.created`, now), meta: meta(value.meta, `${path}.meta`),
		...(value.thoughts !== undefined && { thoughts: text(value.thoughts, `${path}.thoughts`, MAX.content) }),
	};
}

const isId = (id) => typeof id === 'string' && /^[\w-]{8,64}$/.test(id);

/** The ids of messages. One that is missing or repeated is replaced, by the same id on every read. */
export function nameMessages(messages) {
	const used = new Set();
	return messages.map((one, i) => {
		let id = isId(one?.id) && !used.has(one.id) ? one.id : `message-${i}`;
		while (used.has(id)) id += '-';
		used.add(id);
		return id;
	});
}

/** Imports all or nothing. `freshId()` makes an id for a conversation whose own is missing, invalid or in `taken`. */
export function importText(source, taken, freshId) {
	let file;
	try { file = JSON.parse(source.replace(/^\uFEFF/, '')); } catch (error) { throw new ImportError('json', { message: cut(error.message, 120) }); }
	if (file?.format !== FORMAT || file.version !== 1) throw new ImportError('format');
	const used = new Set(taken);
	const now = Date.now();
	return list(file.conversations, 'conversations', MAX.conversations).map((value, i) => {
		const path = `conversations[${i}]`;
		object(value, path);
		let id = isId(value.id) ? value.id : freshId();
		while (used.has(id)) id = freshId();
		used.add(id);
		const created = time(value.created, `${path}.created`, now);
		const messages = list(value.messages, `${path}.messages`, MAX.messages);
		const ids = nameMessages(messages);
		return {
			id, title: cut(title(text(value.title ?? '', `${path}.title`, MAX.content)), TITLE_UNITS, TITLE_UNITS), created, updated: time(value.updated, `${path}.updated`, created),
			settings: settings(value.settings, `${path}.settings`),
			messages: messages.map((one, j) => message(one, `${path}.messages[${j}]`, now, ids[j])),
			...(isId(value.rev) && { rev: value.rev }),
		};
	});
}
