// Input: a conversation's messages, and the answer being written. Output: their elements, and (action, message, extra)
// when a button is pressed. Finished rows are never redrawn. Knows nothing of the store, the server (`render` is
// passed in) or what an action does.
import { fragment } from './sanitize.js';
import { t, number, translate } from './i18n.js';
import { copy } from './dialogs.js';
import { count, cut } from './text.js';

const LONG = 8000; // characters of a user's message shown before "Show all"
const clone = (id) => translate(document.getElementById(id).content.cloneNode(true)).firstElementChild;

const ERRORS = new Map(Object.entries({ offline: 'e_offline', cut: 'e_cut', overloaded_error: 'e_busy', unavailable_error: 'waitReady', 401: 'e_key', 413: 'e_large' }));
function errorText({ error, error_message: message, prompt_tokens: used, n_ctx: n }) {
	if (error === 'exceed_context_size_error' && used && n) return `${t('e_context', { used: number(used), n: number(n) })} ${t('contextAdvice')}`;
	return ERRORS.has(error) ? t(ERRORS.get(error)) : t('e_other', { message: message || error || '?' });
}

function noticeText({ content, meta }) {
	switch (meta.finish) {
		case 'error': return errorText(meta);
		case 'aborted': case 'partial': case 'length': return t(`st_${meta.finish}`);
		case 'context': return t('st_context', { n: number(meta.n_ctx || 0) });
		default: return content.trim() ? '' : t('st_empty');
	}
}

/** Adds headers to code blocks, and a scrolling box around wide content. */
function dress(content) {
	for (const pre of content.querySelectorAll('pre:not(.continued)')) {
		const lang = pre.dataset.lang || '';
		const figure = clone('t-code');
		figure.dataset.lang = lang;
		figure.querySelector('figcaption > span').textContent = lang || t('code');
		figure.querySelector('button').setAttribute('aria-label', `${t('copyCode')} ${lang}`);
		pre.replaceWith(figure);
		figure.append(pre);
		Object.assign(pre, { tabIndex: 0, role: 'group', ariaLabel: lang || t('code') });
	}
	for (const box of content.querySelectorAll('input')) box.ariaLabel = t('task');
	for (const wide of content.querySelectorAll('table, math[display=block]')) {
		const box = document.createElement('div');
		const isTable = wide.localName === 'table';
		box.className = isTable ? 'scroll-x' : 'scroll-x formula';
		wide.replaceWith(box);
		box.append(wide);
		if (isTable) Object.assign(box, { tabIndex: 0, role: 'group', ariaLabel: t('table') });
	}
	return content;
}

export function createThread({ root, scroller, jump, render, onAction }) {
	let rows = [];
	const rowOf = new WeakMap();

	// Follow the end only while the reader is there.
	let pinned = true;
	let lastTop = 0;
	const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };
	const pin = () => { pinned = true; jump.hidden = true; toEnd(); };
	const follow = () => { if (pinned) toEnd(); };
	scroller.addEventListener('scroll', () => {
		const top = scroller.scrollTop;
		const below = scroller.scrollHeight - top - scroller.clientHeight;
		if (below < (top < lastTop ? 4 : 30)) pinned = true;
		else if (top < lastTop - 1) pinned = false;
		lastTop = top;
		jump.hidden = pinned;
	}, { passive: true });
	const sizes = new ResizeObserver(follow);
	sizes.observe(root);
	sizes.observe(scroller);
	jump.addEventListener('click', () => { pin(); root.focus({ preventScroll: true }); });

	// Stored answers are shown as plain text first, and rendered when they come near the screen.
	const near = new IntersectionObserver((entries) => {
		for (const entry of entries) if (entry.isIntersecting) draw(rowOf.get(entry.target));
	}, { root: scroller, rootMargin: '900px 0px' });

	async function draw(row) {
		near.unobserve(row.el);
		row.pending = false;
		const { content, thoughts } = row.message;
		try {
			const drawn = await Promise.all([content, thoughts].map((text) => text ? render(text) : []));
			if (row.message.content !== content || row.live) return;
			for (const [i, part] of [row, thinking(row)].entries()) {
				if (part) part.slots = [];
				drawn[i].forEach((html, at) => setBlock(part, at, html));
			}
		} catch { row.pending = true; } // stays plain text until redraw()
	}

	/** Where a message's reasoning is drawn, if it has any; its summary line says how long it took. */
	function thinking(row) {
		const { thoughts, meta } = row.message;
		if (!thoughts) return null;
		if (!row.thoughts) {
			const el = clone('t-thoughts');
			row.body.before(el);
			row.thoughts = { line: el.firstElementChild, body: el.lastElementChild, slots: [] };
		}
		row.thoughts.line.textContent = t(row.live?.phase === 'thinking' ? 'thinking' : 'thought', { n: number(meta.thought_seconds ?? 0) });
		return row.thoughts;
	}

	function later(row) {
		const { content, thoughts } = row.message;
		if (!row.slots.length) plain(row, content);
		const part = thinking(row);
		if (part && !part.slots.length) plain(part, thoughts);
		if (content || part) near.observe(row.el);
	}

	function plain(row, text) {
		row.body.classList.add('plain');
		row.body.textContent = text;
	}

	function setBlock(row, i, html) {
		if (!row.slots.length) { row.body.classList.remove('plain'); row.body.replaceChildren(); }
		while (row.slots.length <= i) {
			const slot = document.createElement('div');
			slot.className = 'block';
			slot.dir = 'auto';
			row.slots.push(slot);
			row.body.append(slot);
		}
		const slot = row.slots[i];
		const fresh = dress(fragment(html));
		const rest = fresh.firstElementChild?.matches('pre.continued') && fresh.querySelector('code');
		if (rest && goOn(row, i, rest)) return;
		const [was, now] = [slot.firstElementChild, fresh.firstElementChild];
		const sameCode = [was, now].every((el) => el?.className === 'codeblock' && !el.nextElementSibling) && was.dataset.lang === now.dataset.lang;
		if (sameCode) was.querySelector('code').replaceWith(now.querySelector('code')); // keeps focus and scroll
		else slot.replaceChildren(fresh);
	}

	/** Long code comes in pieces, so that a new line does not redraw it all: each goes into the first one's element. */
	function goOn(row, i, rest) {
		const begin = row.slots.slice(0, i).findLast((slot) => slot.localName === 'div');
		const code = begin?.querySelector('.codeblock code');
		if (!code) return false;
		const piece = document.createElement('span');
		piece.append(...rest.childNodes);
		if (row.slots[i].parentNode === code) {
			row.slots[i].replaceWith(piece);
		} else {
			row.slots[i].remove();
			code.append(piece);
		}
		row.slots[i] = piece;
		return true;
	}

	function userText(row, whole = false) {
		const { content } = row.message;
		const more = row.el.querySelector('[data-action=more]');
		more.hidden = whole || content.length <= LONG;
		if (!more.hidden) more.textContent = t('showAll', { n: number(count(content)) });
		row.body.textContent = more.hidden ? content : `${cut(content, LONG * 0.75, LONG)}…`;
	}

	function addRow(message, answer) {
		const el = clone(message.role === 'user' ? 't-user' : 't-assistant');
		const row = { message, el, body: el.querySelector('.body'), slots: [], live: null, pending: false };
		rowOf.set(el, row);
		rows.push(row);
		root.append(el);
		if (message.role === 'user') userText(row);
		else if (answer) stream(answer, true);
		else { settle(row); later(row); }
	}

	/** Updates the notice and buttons under an answer that is not being written. */
	function settle(row) {
		const { el, message } = row;
		const text = noticeText(message);
		const finish = message.meta.finish || 'stop';
		const cut = finish === 'length' || finish === 'context';
		el.dataset.status = finish;
		el.querySelector('.status').hidden = true;
		const notice = el.querySelector('.notice');
		notice.hidden = !text;
		notice.firstElementChild.textContent = text;
		notice.classList.toggle('bad', finish === 'error');
		notice.lastElementChild.hidden = cut;
		el.querySelector('[data-action=copy]').hidden = !message.content;
		el.querySelector('[data-action=regenerate]').hidden = Boolean(text) && !cut;
	}

	function said(phase, percent, before) {
		if (phase === 'reading') return t('reading', { p: percent });
		if (phase !== 'waiting' || before === undefined) return t(phase);
		return before === 0 ? t('next') : t('queued', { n: before });
	}

	function status(row, { phase, percent, before }) {
		const line = row.el.querySelector('.status');
		line.hidden = false;
		line.querySelector('.status-text').textContent = said(phase, percent, before);
		line.querySelector('.track').hidden = phase !== 'reading';
		line.querySelector('.track i').style.width = `${percent}%`;
	}

	/** Draws what changed in the answer being written (all of it if `all`). */
	function stream(answer, all = false) {
		const row = rows.findLast((one) => one.message === answer.message);
		if (!row) return;
		row.live = answer;
		row.el.dataset.status = 'streaming';
		for (const [part, { blocks, changed }] of [[row, answer], [thinking(row), answer.thoughts]]) {
			for (const i of all ? blocks.keys() : changed) setBlock(part, i, blocks[i]);
			changed.clear();
		}
		if (!answer.blocks.length && answer.message.content) plain(row, answer.message.content);
		status(row, answer);
	}

	function edit(row) {
		if (row.el.querySelector('.editor')) return;
		const form = clone('t-editor');
		const area = form.querySelector('textarea');
		area.value = row.message.content;
		const close = () => { form.remove(); row.el.classList.remove('editing'); row.el.querySelector('[data-action=edit]').focus(); };
		form.addEventListener('submit', (event) => {
			event.preventDefault();
			if (area.value.trim()) onAction('resend', row.message, area.value);
		});
		form.addEventListener('keydown', (event) => {
			if (event.key === 'Escape') { event.stopPropagation(); close(); }
			if (event.key === 'Enter' && event.target === area && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
		});
		form.querySelector('[data-action=edit-cancel]').addEventListener('click', close);
		row.el.classList.add('editing');
		row.el.append(form);
		area.focus();
		area.setSelectionRange(area.value.length, area.value.length);
	}

	root.addEventListener('click', (event) => {
		const button = event.target.closest('[data-action]');
		const row = rowOf.get(button?.closest('.message'));
		if (!row) return;
		switch (button.dataset.action) {
			case 'copy': copy(row.message.content, button); break;
			case 'copy-code': copy(button.closest('figure').querySelector('code').textContent.replace(/\n$/, ''), button); break;
			case 'more': userText(row, true); break;
			case 'edit': edit(row); break;
			case 'edit-cancel': break;
			default: onAction(button.dataset.action, row.message);
		}
	});

	return {
		/** Shows another conversation (or the same one again). */
		show(chat, answer) {
			near.disconnect();
			rows = [];
			root.replaceChildren();
			this.sync(chat.messages, answer);
		},
		/** Matches the rows to `messages`: keeps the common start, drops the rest, adds new ones. */
		sync(messages, answer, toTheEnd = true) {
			let same = 0;
			while (same < rows.length && rows[same].message === messages[same]) same += 1;
			for (const row of rows.splice(same)) { near.unobserve(row.el); row.el.remove(); }
			for (const message of messages.slice(same)) addRow(message, answer?.message === message ? answer : null);
			if (toTheEnd) pin();
			else follow();
		},
		stream,
		/** Ends the answer and returns its notice. If `exact`, the received blocks are final; else they are rendered again
		 * from the text. */
		finish(answer, exact) {
			const row = rows.findLast((one) => one.message === answer.message);
			if (!row) return '';
			stream(answer);
			row.live = null;
			thinking(row);
			settle(row);
			if (!exact || !row.slots.length) later(row);
			return noticeText(row.message);
		},
		/** Tries again where drawing failed. */
		redraw() { for (const row of rows) if (row.pending) later(row); },
		busy(is) { root.setAttribute('aria-busy', is); },
	};
}
