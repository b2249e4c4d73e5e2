// Enters: a conversation as it was last seen in the store, as it is here, and as it is in the store now. Leaves: all
// that was written in either place, without what was deleted in either. Messages are known by their ids.
// Does not know: the store, elements.

/** What `merge` has to remember of a conversation. */
export const seen = ({ title, settings, messages }) => ({ title, settings: JSON.stringify(settings), ids: new Set(messages.map(({ id }) => id)) });

const same = (a, b) => a.content === b.content && a.thoughts === b.thoughts && JSON.stringify(a.meta) === JSON.stringify(b.meta);

/** The two as one, or null: it was deleted in the store. `own(id)`: the message is written here, so that ours counts. */
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
		// Behind what it was written behind; a question also behind what others have asked there.
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
