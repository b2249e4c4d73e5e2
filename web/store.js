// Enters and leaves: conversations {id, title, created, updated, settings, messages}, in IndexedDB, beside the
// program where it keeps them, or in memory where neither can be. In IndexedDB messages lie apart from titles,
// so that the list loads fast. HTML is never stored. Does not know: elements.
import { importText, plain } from './transfer.js';

const head = ({ id, title, created, updated, settings }) => ({ id, title, created, updated, settings });
const newestFirst = (heads) => heads.sort((a, b) => b.updated - a.updated);
const done = (request) => new Promise((resolve, reject) => {
	request.onsuccess = () => resolve(request.result);
	request.onerror = () => reject(request.error);
});

function open() {
	return new Promise((resolve, reject) => {
		const request = indexedDB.open('tealight', 1);
		done(request).then(resolve, reject);
		request.onupgradeneeded = () => {
			request.result.createObjectStore('heads', { keyPath: 'id' });
			request.result.createObjectStore('bodies', { keyPath: 'id' });
		};
		request.onblocked = () => reject(new Error('blocked'));
		setTimeout(() => reject(new Error('timeout')), 4000);
	});
}

function onDisk(db) {
	db.onversionchange = () => db.close();
	const write = (work) => new Promise((resolve, reject) => {
		const tx = db.transaction(['heads', 'bodies'], 'readwrite');
		tx.oncomplete = () => resolve();
		tx.onabort = tx.onerror = () => reject(tx.error || new Error('aborted'));
		work(tx.objectStore('heads'), tx.objectStore('bodies'));
	});
	const read = (name) => db.transaction(name).objectStore(name);
	return {
		persistent: true,
		list: async () => newestFirst(await done(read('heads').getAll())),
		async get(id) {
			const [found, body] = await Promise.all([done(read('heads').get(id)), done(read('bodies').get(id))]);
			return found && { ...found, messages: body?.messages ?? [] };
		},
		put: (...all) => write((heads, bodies) => {
			for (const one of all) { heads.put(head(one)); bodies.put({ id: one.id, messages: one.messages }); }
		}),
		remove: (id) => write((heads, bodies) => { heads.delete(id); bodies.delete(id); }),
	};
}

function inMemory() {
	const kept = new Map();
	return {
		persistent: false,
		list: async () => newestFirst([...kept.values()].map(head)),
		get: async (id) => structuredClone(kept.get(id)),
		put: async (...all) => { for (const one of all) kept.set(one.id, structuredClone(plain(one))); },
		remove: async (id) => { kept.delete(id); },
	};
}

/** `chats` gives all as text, or takes what to `put` and to `remove`. Not for every word: sticks are slow. */
function besideProgram(chats) {
	let kept;
	return {
		persistent: true, slow: true,
		async list() {
			const all = importText(await chats(), [], newId);
			kept = inMemory();
			await kept.put(...all);
			return kept.list();
		},
		get: (id) => kept.get(id),
		put: (...all) => chats({ put: all.map(plain) }),
		remove: (id) => chats({ remove: [id] }),
	};
}

export async function openStore(chats) {
	try {
		if (!(await chats())) return onDisk(await open());
		const kept = besideProgram(chats);
		await kept.list();
		return kept;
	} catch { return inMemory(); }
}

export function newId() {
	return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Small preferences (theme, language, defaults), or `null` where storage is off. */
export const preference = {
	get(name) { try { return JSON.parse(localStorage.getItem(`tealight.${name}`)); } catch { return null; } },
	set(name, value) { try { localStorage.setItem(`tealight.${name}`, JSON.stringify(value)); } catch { /* for this visit only */ } },
};
