// Stores conversations {id, title, created, updated, settings, messages} in IndexedDB, beside the program if it keeps
// them, or in memory if neither is possible. IndexedDB holds messages apart from titles, so that the list loads fast.
// HTML is never stored. Another tab or browser may have changed what is saved, so each save merges. Knows nothing of
// elements.
import { importText, nameMessages, parts, plain } from './transfer.js';
import { merge, seen } from './merge.js';

const REQUEST_BYTES = 8000000;
const head = ({ id, title, created, updated, settings }) => ({ id, title, created, updated, settings });
const newestFirst = (heads) => heads.sort((a, b) => b.updated - a.updated);
const done = (request) => new Promise((resolve, reject) => {
	request.onsuccess = () => resolve(request.result);
	request.onerror = () => reject(request.error);
});
const whole = (found, body) => {
	const messages = body?.messages ?? [];
	const ids = nameMessages(messages);
	return found && { ...found, messages: messages.map((one, i) => ({ ...one, id: ids[i] })) };
};

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

// A place has list(), get(id), add(...all), remove(id), and change(id, make). change() replaces the stored
// conversation with what `make` makes of it (null: leaves it) and resolves to that, with no other change in between.

function onDisk(db) {
	db.onversionchange = () => db.close();
	const write = (work) => new Promise((resolve, reject) => {
		const tx = db.transaction(['heads', 'bodies'], 'readwrite');
		let result;
		tx.oncomplete = () => resolve(result);
		tx.onabort = tx.onerror = () => reject(tx.error || new Error('aborted'));
		work(tx.objectStore('heads'), tx.objectStore('bodies'), (value) => { result = value; });
	});
	const put = (heads, bodies, one) => { heads.put(head(one)); bodies.put({ id: one.id, messages: one.messages }); };
	const read = (name) => db.transaction(name).objectStore(name);
	return {
		persistent: true,
		list: async () => newestFirst(await done(read('heads').getAll())),
		get: async (id) => whole(...await Promise.all([done(read('heads').get(id)), done(read('bodies').get(id))])),
		add: (...all) => write((heads, bodies) => { for (const one of all) put(heads, bodies, one); }),
		change: (id, make) => write((heads, bodies, result) => {
			const found = heads.get(id);
			const body = bodies.get(id);
			body.onsuccess = () => {
				const made = make(whole(found.result, body.result));
				result(made);
				if (made) put(heads, bodies, made);
			};
		}),
		remove: (id) => write((heads, bodies) => { heads.delete(id); bodies.delete(id); }),
	};
}

function inMemory() {
	const kept = new Map();
	const put = (one) => kept.set(one.id, structuredClone({ ...plain(one), rev: one.rev }));
	const get = (id) => structuredClone(kept.get(id));
	return {
		persistent: false,
		list: async () => newestFirst([...kept.values()].map(head)),
		get: async (id) => get(id),
		add: async (...all) => all.forEach(put),
		change: async (id, make) => { const made = make(get(id)); if (made) put(made); return made; },
		remove: async (id) => { kept.delete(id); },
	};
}

/** `chats` returns all as text, or takes what to `put` and to `remove`. Not to be called for every token: sticks are
 * slow. */
function besideProgram(chats) {
	let kept;
	async function list() {
		const all = importText(await chats(), [], newId);
		kept = inMemory();
		await kept.add(...all);
		return kept.list();
	}
	return {
		persistent: true, slow: true, list,
		get: (id) => kept.get(id),
		async add(...all) {
			for (const some of parts(all, REQUEST_BYTES)) await chats({ put: some.map(plain) });
		},
		/** The program refuses to overwrite a version that we have not seen: then read it, and make the change again. */
		async change(id, make) {
			for (let tries = 0; ; tries += 1) {
				const there = await kept.get(id);
				const made = make(there);
				if (!made) return made;
				const put = { ...plain(made), rev: newId() };
				try {
					await chats({ put: [put], when: { [id]: there?.rev ?? null } });
					await kept.add(put);
					return made;
				} catch (error) {
					if (error.status !== 409 || tries > 9) throw error;
				}
				await list();
			}
		},
		remove: (id) => chats({ remove: [id] }),
	};
}

/** Adds merging to a place: remembers the version last seen there of each conversation in use. */
function merging(place) {
	const bases = new WeakMap();
	const own = new Set();
	let last = Promise.resolve();

	/** Updates `chat` to the merge, made by `work`, of a copy of it and the stored version. Resolves to whether that
	 * changed it, or to null if it was deleted. */
	async function both(chat, saves, work) {
		let copy;
		let there;
		const made = await work((stored) => {
			there = stored;
			copy = { ...chat, messages: [...chat.messages] };
			return merge(bases.get(chat), copy, stored, (id) => own.has(id));
		});
		if (!made) return null;
		// Keep what was changed here meanwhile.
		const now = merge(seen(copy), { ...chat }, made, (id) => own.has(id));
		if (saves || there) bases.set(chat, seen(saves ? made : there));
		const before = [chat.title, JSON.stringify(chat.settings), ...chat.messages];
		const { title, settings, messages, updated } = now;
		Object.assign(chat, { title, settings, messages, updated });
		return [title, JSON.stringify(settings), ...messages].some((one, i) => one !== before[i]) || before.length !== messages.length + 2;
	}
	const inTurn = (work) => { last = last.then(work, work); return last; };

	return {
		...place,
		async get(id) {
			const found = await place.get(id);
			if (found) bases.set(found, seen(found));
			return found;
		},
		/** Marks a message as written here: other versions of it are older. */
		own: (id) => own.add(id),
		save: (chat) => inTurn(() => both(chat, true, (make) => place.change(chat.id, make))),
		/** Merges in what others have saved. */
		pull: (chat) => inTurn(() => both(chat, false, async (make) => make(await place.get(chat.id)))),
	};
}

export async function openStore(chats) {
	try {
		if (!(await chats())) return merging(onDisk(await open()));
		const kept = besideProgram(chats);
		await kept.list();
		return merging(kept);
	} catch { return merging(inMemory()); }
}

export function newId() {
	return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Small preferences (theme, language, defaults), or `null` where storage is off. */
export const preference = {
	get(name) { try { return JSON.parse(localStorage.getItem(`tealight.${name}`)); } catch { return null; } },
	set(name, value) { try { localStorage.setItem(`tealight.${name}`, JSON.stringify(value)); } catch { /* for this visit only */ } },
};
