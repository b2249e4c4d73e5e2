// Enters: conversations, or a file that nobody vouches for. Leaves: the export's text, or conversations built
// anew from known fields of the right type, else an ImportError {reason, values}. Content stays text.
// Does not know: the store, elements.
import { FIELDS, inRange } from './options.js';

export const MAX_MB = 64;
const MAX = { conversations: 10000, messages: 20000, content: 8000000, title: 200 };
const FORMAT = 'tealight-chats';

export class ImportError extends Error {
	constructor(reason, values = {}) { super(reason); this.reason = reason; this.values = values; }
}

const META_TEXT = ['finish', 'model', 'error', 'error_message'];
const META_NUMBER = ['thought_seconds', 'prompt_tokens', 'completion_tokens', 'prompt_per_second', 'predicted_per_second', 'n_ctx'];

export const plain = ({ id, title, created, updated, settings, messages }) => ({ id, title, created, updated, settings, messages });
export const exportText = (all) => JSON.stringify({ format: FORMAT, version: 1, conversations: all.map(plain) }, null, 1);

const bad = (path, what, values) => { throw new ImportError('type', { path, what, values }); };
const object = (value, path) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? value : bad(path, 'object'));
function short(value, path, most) {
	if (value.length > most) throw new ImportError('long', { path, n: most });
	return value;
}
const list = (value, path, most) => (Array.isArray(value) ? short(value, path, most) : bad(path, 'list'));
const text = (value, path, most) => (typeof value === 'string' ? short(value, path, most) : bad(path, 'text'));
function time(value, path, otherwise) {
	if (value === undefined) return otherwise;
	return typeof value === 'number' && value >= 0 && value <= 8.64e15 ? value : bad(path, 'number');
}

function settings(value, path) {
	const out = {};
	if (value === undefined) return out;
	object(value, path);
	if (value.system !== undefined) out.system = text(value.system, `${path}.system`, MAX.content);
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

function message(value, path, now) {
	object(value, path);
	if (value.role !== 'user' && value.role !== 'assistant') bad(`${path}.role`, 'role');
	return {
		role: value.role, content: text(value.content, `${path}.content`, MAX.content),
		created: time(value.created, `${path}.created`, now), meta: meta(value.meta, `${path}.meta`),
		...(value.thoughts !== undefined && { thoughts: text(value.thoughts, `${path}.thoughts`, MAX.content) }),
	};
}

/** All or nothing. `freshId()` makes an id for a conversation whose own is missing, odd or in `taken`. */
export function importText(source, taken, freshId) {
	let file;
	try { file = JSON.parse(source.replace(/^\uFEFF/, '')); } catch (error) { throw new ImportError('json', { message: error.message.slice(0, 120) }); }
	if (file?.format !== FORMAT || file.version !== 1) throw new ImportError('format');
	const used = new Set(taken);
	const now = Date.now();
	return list(file.conversations, 'conversations', MAX.conversations).map((value, i) => {
		const path = `conversations[${i}]`;
		object(value, path);
		let id = typeof value.id === 'string' && /^[\w-]{8,64}$/.test(value.id) ? value.id : freshId();
		while (used.has(id)) id = freshId();
		used.add(id);
		const created = time(value.created, `${path}.created`, now);
		return {
			id, title: text(value.title ?? '', `${path}.title`, MAX.title), created, updated: time(value.updated, `${path}.updated`, created),
			settings: settings(value.settings, `${path}.settings`),
			messages: list(value.messages, `${path}.messages`, MAX.messages).map((one, j) => message(one, `${path}.messages[${j}]`, now)),
		};
	});
}
