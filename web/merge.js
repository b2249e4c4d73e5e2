// A three-way merge. Input: a conversation as last seen in the store, as it is here, and as it is in the store now.
// Output: everything written in either place, minus what was deleted in either. Messages are identified by id. Knows
// nothing of the store or of elements.

/** What `merge` needs to know of the version last seen: its base. */
export const seen = ({ title, settings, messages }) => ({ title, settings: JSON.stringify(settings), ids: new Set(messages.map(({ id }) => id)) });

const same = (a, b) => a.content === b.content && a.thoughts === b.thoughts && JSON.stringify(a.meta) === JSON.stringify(b.meta);

/** The merged conversation, or null if it was deleted in the store. `own(id)` says that a message is written here, so
 * that ours wins. */
export function merge(base, mine, stored, own) {
	if (!stored) return !base || mine.messages.some(({ id }) => !base.ids.has(id)) ? mine : null;
	const here = new Map(mine.messages.map((message) => [message.id, message]));
	const deleted = new Set([...base?.ids ?? []].filter((id) => !here.has(id)));
	const there = new Set(stored.messages.map(({ id }) => id));
	const messages = [];
	for (const message of stored.messages) {
		const known = here.get(message.id);
		if (known) messages.push(own(message.id) || same(known, message) ? known : message);
		else if (!deleted.has(message.id)) messages.push(message);
	}
	mine.messages.forEach((message, i) => {
		if (there.has(message.id) || base?.ids.has(message.id)) return;
		// Insert it after the message it followed; a question also goes after what others have asked there.
		const before = mine.messages.slice(0, i).findLast(({ id }) => messages.some((one) => one.id === id));
		let at = messages.findIndex(({ id }) => id === before?.id) + 1;
		if (message.role === 'user') while (at < messages.length && !here.has(messages[at].id)) at += 1;
		messages.splice(at, 0, message);
	});
	return {
		...mine, messages,
		title: base && mine.title === base.title ? stored.title : mine.title,
		settings: base && JSON.stringify(mine.settings) === base.settings ? stored.settings : mine.settings,
		updated: Math.max(mine.updated, stored.updated),
	};
}
