// The entry point. Input: user actions and the server's stream. Output: changes to state and store, and calls that
// draw: action -> state (and store) -> view. It contains no markup.
import * as api from './api.js';
import { openStore, newId, preference } from './store.js';
import { setLanguage, preferredLanguage, t } from './i18n.js';
import { FIELDS, inRange, requestBody, contextSize } from './options.js';
import { createThread } from './thread.js';
import { announcer } from './announce.js';
import { $, ask, open as openDialog, toast, saveFile } from './dialogs.js';
import { setUp as setUpSettings, openSettings } from './settings.js';
import { exportTexts, importText, ImportError, TITLE_UNITS } from './transfer.js';
import { FILE_BYTES_MAX } from './limits.js';
import { cut, isolated, title as cleanTitle, wellFormed } from './text.js';
import * as view from './frame.js';

const composer = $('composer');
const on = (id, type, act) => $(id).addEventListener(type, act);

const state = {
	server: 'loading', detail: '', locked: false, props: null, // what the server said
	heads: [], chat: fresh(), // the list, and the one on screen
	answer: null, // the answer being written: {chat, message, blocks, changed, …}
};
const drafts = new Map(); // unsent text by chat

// ---- drawing

const live = announcer($('live'));
const thread = createThread({
	root: $('messages'), scroller: $('scroller'), jump: $('jump'), render: api.render,
	onAction(action, message, extra) {
		if (action === 'retry' || action === 'regenerate') answerAgain(message);
		if (action === 'resend') resend(message, extra);
	},
});

function draw() {
	view.frame(state);
	view.list(state);
	view.meter(state);
	thread.busy(Boolean(state.answer));
	$('stop').hidden = !state.answer;
	$('send').hidden = Boolean(state.answer);
	$('send').disabled = state.server !== 'ready' || state.locked || !composer.value.trim();
}

let frameAsked = 0;
function drawAnswerSoon() {
	frameAsked ||= requestAnimationFrame(() => {
		frameAsked = 0;
		const { answer } = state;
		if (!answer || answer.chat !== state.chat) return;
		thread.stream(answer);
		view.meter(state);
	});
}

function resize() {
	if (CSS.supports('field-sizing', 'content')) return;
	composer.style.height = 'auto';
	composer.style.height = `${Math.min(composer.scrollHeight, 240)}px`;
}

// ---- conversations

let store;
const otherTabs = 'BroadcastChannel' in window ? new BroadcastChannel('tealight') : null;

function fresh() {
	const now = Date.now();
	return { id: newId(), title: '', created: now, updated: now, settings: defaults(), messages: [] };
}

function defaults() {
	const saved = preference.get('defaults');
	if (!saved || typeof saved !== 'object') return {};
	const out = typeof saved.system === 'string' ? { system: saved.system } : {};
	for (const field of FIELDS) if (inRange(field, saved[field.key])) out[field.key] = saved[field.key];
	return out;
}

function titleFrom(text) {
	const words = cleanTitle(text.slice(0, 5000));
	const short = cut(words, 48, TITLE_UNITS - 1);
	if (short === words) return words;
	return `${short.lastIndexOf(' ') > 20 ? short.slice(0, short.lastIndexOf(' ')) : short}…`;
}

async function save(chat, touched = true) {
	if (chat.gone) return;
	if (touched) chat.updated = Date.now();
	try {
		took(chat, await store.save(chat));
	} catch {
		return view.storageNotice(t('saveFailed'));
	}
	if (touched) await refreshList(chat.id);
}

/** Shows what the store has changed in a conversation; `changed` is null if it was deleted. */
function took(chat, changed) {
	const { answer } = state;
	if (answer?.chat === chat && (changed === null || !chat.messages.includes(answer.message))) answer.controller.abort();
	if (changed === null) chat.gone = true;
	if (chat !== state.chat || changed === false) return;
	if (changed === null) return show(fresh(), false);
	thread.sync(chat.messages, answer, false);
	draw();
}

async function refreshList(changedId) {
	state.heads = await store.list();
	view.list(state);
	if (changedId) otherTabs?.postMessage(changedId);
}

otherTabs?.addEventListener('message', async ({ data: id }) => {
	if (!store) return;
	await refreshList();
	const chat = await inUse(id);
	if (chat) took(chat, await store.pull(chat));
});

function show(chat, focus = true) {
	drafts.set(state.chat.id, composer.value);
	state.chat = chat;
	composer.value = drafts.get(chat.id) ?? '';
	resize();
	showAddress();
	draw();
	thread.show(chat, state.answer);
	if (focus) composer.focus();
}

function newChat() {
	view.closeDrawer(false);
	show(state.chat.messages.length ? fresh() : state.chat);
}

async function openConversation(id) {
	const { answer } = state;
	const found = answer?.chat.id === id ? answer.chat : await store.get(id);
	if (!found) return false;
	view.closeDrawer(false);
	show(found, !matchMedia('(pointer: coarse)').matches);
	return true;
}

const inUse = (id) => [state.chat, state.answer?.chat].find((one) => one?.id === id);

/** The conversation's live object if it is in use, so that changes are not lost. */
const take = async (id) => inUse(id) ?? store.get(id);

// The address of another conversation, typed or reached with Back.
addEventListener('hashchange', async () => {
	const id = hashId();
	if (!store || !id || id === state.chat.id) return;
	if (!(await openConversation(id))) showAddress();
});
const hashId = () => (location.hash.startsWith('#c=') ? location.hash.slice(3) : '');

function showAddress() {
	const hash = state.chat.messages.length ? `#c=${state.chat.id}` : '';
	history.replaceState(null, '', location.pathname + location.search + hash);
}

async function rename(id) {
	const chat = await take(id);
	if (!chat) return refreshList(); // deleted in another browser
	const title = await ask({ title: t('renameTitle'), label: t('titleLabel'), value: chat.title, ok: t('save') });
	if (title === null) return;
	chat.title = cut(cleanTitle(title), TITLE_UNITS, TITLE_UNITS);
	await save(chat);
	draw();
}

async function remove(id) {
	const chat = await take(id);
	if (!chat) return refreshList();
	const title = isolated(cleanTitle(chat.title)) || t('newChat');
	if (!(await ask({ title: t('deleteTitle'), text: t('deleteText', { title }), ok: t('delete'), danger: true }))) return;
	chat.gone = true;
	if (state.answer?.chat === chat) state.answer.controller.abort();
	await store.remove(id);
	await refreshList(id);
	if (state.chat.id === id) show(fresh());
	else $('new-chat').focus();
}

async function exportChats(...ids) {
	const all = (await Promise.all(ids.map(take))).filter(Boolean);
	const texts = exportTexts(all);
	for (const [i, text] of texts.entries()) {
		const part = texts.length > 1 ? `-${i + 1}` : '';
		saveFile(`tealight-chats-${new Date().toISOString().slice(0, 10)}${part}.json`, text);
	}
}

async function importFile(file) {
	try {
		if (file.size > FILE_BYTES_MAX) throw new ImportError('size', { n: FILE_BYTES_MAX / 1e6 });
		const text = await file.text();
		const found = importText(text, [...state.heads.map(({ id }) => id), state.chat.id], newId);
		await store.add(...found);
		await refreshList('');
		toast(found.length === 1 ? t('imported1') : t('imported', { n: found.length }));
	} catch (error) {
		const { what, values } = error.values ?? {};
		const details = what ? { ...error.values, what: t(`w_${what}`, values) } : error.values;
		await ask({ title: t('importFailed'), text: error instanceof ImportError ? t(`i_${error.reason}`, details) : t('e_other', { message: error.message }), ok: t('ok') });
	}
}

// ---- answers

function ready() {
	if (state.answer) live.say(t('waitBusy'));
	else if (state.server !== 'ready') live.say(t('waitReady'));
	return !state.answer && state.server === 'ready' && Boolean(store);
}

function send(text) {
	const content = wellFormed(text.replace(/^\s*\n|\s+$/g, ''));
	if (!content || !ready()) return false;
	const { chat } = state;
	chat.title ||= titleFrom(content);
	chat.messages.push({ id: newId(), role: 'user', content, created: Date.now(), meta: {} });
	generate(chat);
	return true;
}

function answerAgain(message) {
	const { messages } = state.chat;
	if (messages.at(-1) !== message || !ready()) return;
	messages.pop();
	generate(state.chat);
	composer.focus({ preventScroll: true });
}

function resend(message, text) {
	const { chat } = state;
	const at = chat.messages.indexOf(message);
	if (at < 0 || !ready()) return;
	chat.messages.length = at;
	if (at === 0 && chat.title === titleFrom(message.content)) chat.title = '';
	send(text);
	composer.focus({ preventScroll: true });
}

async function generate(chat) {
	const body = requestBody(state.props, chat);
	const message = { id: newId(), role: 'assistant', content: '', created: Date.now(), meta: { finish: 'partial', model: state.props?.model_alias ?? '' } };
	chat.messages.push(message);
	store.own(message.id);
	const answer = {
		chat, message, controller: new AbortController(), blocks: [], changed: new Set(), thoughts: { blocks: [], changed: new Set() },
		phase: 'waiting', percent: 0, total: 0, count: 0, firstAt: 0, finish: '', usage: null,
	};
	state.answer = answer;
	live.start();
	draw();
	thread.sync(chat.messages, answer);
	history.replaceState(null, '', `#c=${chat.id}`);
	save(chat);
	let saved = 0;
	const saver = setInterval(() => {
		if (answer.count === saved || store.slow) return;
		saved = answer.count;
		save(chat, false);
	}, 1000);
	let error = null;
	try {
		for await (const chunk of api.chat(body, answer.controller.signal)) { receive(answer, chunk); drawAnswerSoon(); }
		if (!answer.finish) error = { type: 'cut', message: '' };
	} catch (failure) {
		error = failure;
	}
	clearInterval(saver);
	conclude(answer, error);
}

function receive(answer, chunk) {
	const { message } = answer;
	const heard = answer.chat === state.chat;
	const progress = chunk.prompt_progress;
	answer.before = chunk.queue?.before;
	if (progress?.total > 0 && !answer.firstAt) {
		if (answer.phase === 'waiting' && heard && progress.processed < progress.total) live.say(t('readingSpoken'));
		answer.phase = 'reading';
		answer.total = progress.total;
		answer.percent = Math.min(100, Math.round((100 * progress.processed) / progress.total));
	}
	const choice = chunk.choices?.[0];
	const { content: piece, reasoning_content: thought } = choice?.delta ?? {};
	if (piece || thought) {
		answer.firstAt ||= performance.now();
		answer.count += 1;
	}
	if (typeof thought === 'string' && thought) {
		// Reasoning can be unfolded; it is not read aloud.
		if (answer.phase !== 'thinking' && heard) live.say(t('thinking'));
		answer.phase = 'thinking';
		message.thoughts = (message.thoughts ?? '') + thought;
		message.meta.thought_seconds = Math.ceil((performance.now() - answer.firstAt) / 1000);
	}
	if (typeof piece === 'string' && piece) {
		answer.phase = 'writing';
		message.content += piece;
		if (heard) live.feed(piece);
	}
	const { block, html, of } = chunk.html ?? {};
	const part = of ? answer.thoughts : answer;
	if (Number.isInteger(block) && block >= 0 && block <= part.blocks.length && typeof html === 'string') {
		part.blocks[block] = html;
		part.changed.add(block);
	}
	if (choice?.finish_reason) answer.finish = choice.finish_reason;
	if (chunk.usage) answer.usage = chunk.usage;
	if (chunk.timings) answer.timings = chunk.timings;
}

/** Fills message.meta from how the answer ended. */
function account({ message, controller, usage, timings, finish, total, count, firstAt }, error) {
	const { meta } = message;
	const n = contextSize(state.props);
	const seconds = (performance.now() - firstAt) / 1000;
	meta.prompt_tokens = usage?.prompt_tokens ?? total;
	meta.completion_tokens = usage?.completion_tokens ?? count;
	if (timings?.prompt_per_second > 0) meta.prompt_per_second = timings.prompt_per_second;
	const speed = timings?.predicted_per_second ?? (firstAt && count > 4 ? count / seconds : 0);
	if (speed > 0 && Number.isFinite(speed)) meta.predicted_per_second = speed;
	if (n) meta.n_ctx = n;
	if (!error) {
		meta.finish = finish === 'length' ? 'length' : 'stop';
		if (finish === 'length' && n && meta.prompt_tokens + meta.completion_tokens >= n) meta.finish = 'context';
		return;
	}
	meta.finish = controller.signal.aborted ? 'aborted' : 'error';
	if (controller.signal.aborted) return;
	if (error instanceof api.ApiError) {
		meta.error = error.status === 401 || error.status === 413 ? String(error.status) : error.type || 'other';
		if (error.info.n_prompt_tokens > 0) meta.prompt_tokens = error.info.n_prompt_tokens;
		if (error.info.n_ctx > 0) meta.n_ctx = error.info.n_ctx;
	} else {
		meta.error = error.type === 'cut' ? 'cut' : error instanceof SyntaxError ? 'other' : 'offline';
	}
	meta.error_message = cut(error.message, 500, 2000);
}

function conclude(answer, error) {
	const { chat, message } = answer;
	account(answer, error);
	state.answer = null;
	save(chat);
	if (chat === state.chat) {
		const notice = thread.finish(answer, !error);
		live.finish(message.meta.finish === 'aborted' ? t('stopped') : message.meta.finish === 'stop' ? t('finished') : notice);
	}
	const hadFocus = document.activeElement === $('stop');
	draw();
	if (hadFocus) composer.focus();
	if (message.meta.finish === 'error') poll();
}

// ---- the server

let pollTimer;
let polling = false;
async function poll() {
	clearTimeout(pollTimer);
	if (polling) return;
	polling = true;
	let wait = 5000;
	let next = state.server;
	try {
		await api.health().catch((error) => { if (error.status !== 401) throw error; });
		if (next !== 'ready' || !state.props) state.props = await api.props(state.locked);
		next = 'ready';
		state.locked = false;
	} catch (error) {
		if (error.status === 401) { state.locked = true; next = 'loading'; }
		else if (error.type === 'no_weights') { next = 'no-weights'; state.detail = error.message; wait = 3000; }
		else if (error instanceof api.ApiError) { next = 'loading'; wait = 600; }
		else if (error.name !== 'TimeoutError') { next = 'offline'; wait = 1500; }
	}
	polling = false;
	const changed = next !== state.server;
	state.server = next;
	draw();
	if (changed && next === 'ready') thread.redraw();
	pollTimer = setTimeout(poll, wait);
}

api.onKeyNeeded(async (rejected) => {
	for (let wrong = rejected; ;) {
		const key = await ask({ title: t('keyTitle'), text: t(wrong ? 'keyWrong' : 'keyText'), label: t('keyLabel'), ok: t('keyOk'), secret: true });
		if (key === null || /^[\x21-\x7e]+$/.test(key)) return key; // a header can't hold other characters
		wrong = true;
	}
});

// ---- wiring

function submit() {
	const text = composer.value;
	composer.value = '';
	if (!send(text)) composer.value = text;
	resize();
	draw();
}

function useLanguage(code) {
	setLanguage(code);
	view.retranslate();
	if (store && !store.persistent) view.storageNotice(t('memoryOnly'));
	draw();
	thread.show(state.chat, state.answer);
}

/** A key that an input method handles: Enter then confirms the word and must not send. Safari only sets the code. */
const composing = (event) => event.isComposing || event.keyCode === 229;

function wire() {
	addEventListener('keydown', (event) => {
		if (!composing(event)) return;
		event.stopImmediatePropagation();
		// In a single-line field, Enter would submit the form around it.
		if (event.key === 'Enter' && event.target.localName === 'input') event.preventDefault();
	}, true);
	on('form', 'submit', (event) => { event.preventDefault(); submit(); });
	composer.addEventListener('input', () => { resize(); $('send').disabled = state.server !== 'ready' || !composer.value.trim(); });
	composer.addEventListener('keydown', (event) => {
		if (event.key !== 'Enter' || event.shiftKey) return;
		event.preventDefault();
		submit();
	});
	on('stop', 'click', () => state.answer?.controller.abort());
	on('new-chat', 'click', newChat);
	on('notice-new', 'click', newChat);
	on('samples', 'click', (event) => {
		if (!event.target.matches('.sample')) return;
		composer.value = event.target.textContent;
		composer.focus();
		submit();
	});
	on('search', 'input', () => view.list(state));
	view.onList((action, id) => ({ open: openConversation, rename, delete: remove, export: exportChats })[action](id));
	on('export-all', 'click', () => exportChats(...state.heads.map(({ id }) => id)));
	on('import', 'click', () => $('import-file').click());
	on('import-file', 'change', async ({ target }) => {
		const [file] = target.files;
		if (file) await importFile(file);
		target.value = '';
	});
	on('skip', 'click', (event) => { event.preventDefault(); composer.focus(); });
	on('help-open', 'click', () => openDialog($('help')));
	on('banner-button', 'click', () => { state.locked = false; poll(); });
	on('settings-open', 'click', async () => {
		const { chat } = state;
		const chosen = await openSettings(state.props, chat.settings);
		if (!chosen) return;
		chat.settings = chosen.settings;
		if (chosen.asDefault) preference.set('defaults', chosen.settings);
		if (chat.messages.length) await save(chat);
	});
	setUpSettings({
		theme: preference.get('theme') ?? 'system',
		onLanguage(code) { preference.set('language', code); useLanguage(code); },
		onTheme(theme) { preference.set('theme', theme); dispatchEvent(new CustomEvent('tealight:theme', { detail: theme })); },
	});
	document.addEventListener('keydown', (event) => {
		if (event.key === 'Escape' && !document.querySelector('dialog[open]') && !event.defaultPrevented) {
			if (!view.closeDrawer(true)) state.answer?.controller.abort();
		}
		if (!event.altKey || !event.shiftKey || event.ctrlKey || event.metaKey || document.querySelector('dialog[open]')) return;
		const act = { KeyN: newChat, KeyM: () => { view.closeDrawer(false); composer.focus(); } }[event.code];
		if (act) { event.preventDefault(); act(); }
	});
	document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
}

async function start() {
	setLanguage(preference.get('language') ?? preferredLanguage());
	view.retranslate();
	wire();
	draw();
	poll();
	store = await openStore(api.chats);
	if (!store.persistent) view.storageNotice(t('memoryOnly'));
	await refreshList();
	if (!(hashId() && await openConversation(hashId()))) show(state.chat, !matchMedia('(pointer: coarse)').matches);
}

start();
