// Input: the state (read only). Output: everything around the messages: list, heading, banner, empty page, meter,
// notice. Knows nothing of the store or the server.
import { t, number, translate } from './i18n.js';
import { contextSize } from './options.js';
import { $ } from './dialogs.js';
import { isolated, title as cleanTitle } from './text.js';

const narrow = matchMedia('(max-width: 800px)');
const show = (el, text) => { el.hidden = !text; if (el.textContent !== text) el.textContent = text; };

// The list: beside the page, or over it on narrow screens.
let listOpen = !narrow.matches;
function placeList(focus) {
	document.body.dataset.sidebar = listOpen ? 'open' : 'closed';
	$('sidebar').inert = !listOpen;
	$('pane').inert = listOpen && narrow.matches;
	$('menu').setAttribute('aria-expanded', listOpen);
	if (focus && narrow.matches) (listOpen ? $('new-chat') : $('menu')).focus();
}
export function toggleList(open = !listOpen, focus = true) {
	if (open === listOpen) return;
	listOpen = open;
	placeList(focus);
}
export const closeDrawer = (focus) => { const was = narrow.matches && listOpen; if (was) toggleList(false, focus); return was; };
narrow.addEventListener('change', () => { listOpen = !narrow.matches; placeList(false); });
placeList(false);
$('menu').addEventListener('click', () => toggleList());
$('drawer-close').addEventListener('click', () => toggleList(false));
$('scrim').addEventListener('click', () => toggleList(false));

let drawnList = '';
export function list({ heads, chat, answer }) {
	const wanted = $('search').value.trim().toLowerCase();
	const matching = heads.filter((one) => one.title.toLowerCase().includes(wanted));
	const key = JSON.stringify([document.documentElement.lang, chat.id, answer?.chat.id, heads.length, matching.map((one) => [one.id, one.title])]);
	if (key === drawnList) return;
	drawnList = key;
	const focused = document.activeElement?.closest('#conversations [data-action]');
	const [id, action] = [focused?.closest('li').dataset.id, focused?.dataset.action];
	$('conversations').replaceChildren(...matching.map((one) => {
		const item = $('t-conversation').content.cloneNode(true).firstElementChild;
		const title = cleanTitle(one.title) || t('newChat');
		const open = item.querySelector('.open');
		item.dataset.id = one.id;
		open.firstElementChild.textContent = title;
		open.title = title;
		if (one.id === chat.id) { open.setAttribute('aria-current', 'page'); item.className = 'current'; }
		if (one.id === answer?.chat.id) {
			const mark = document.createElement('span');
			mark.className = 'ember';
			open.append(mark);
		}
		for (const button of item.querySelectorAll('.tools button')) {
			button.title = `${t(button.dataset.action)}: ${isolated(title)}`;
			button.setAttribute('aria-label', button.title);
		}
		return item;
	}));
	if (id) $('conversations').querySelector(`[data-id="${CSS.escape(id)}"] [data-action=${action}]`)?.focus();
	$('search').hidden = heads.length < 8 && !wanted;
	$('export-all').disabled = !heads.length;
	show($('conversations-empty'), heads.length ? '' : t('noConversations'));
}

export function onList(handle) {
	$('conversations').addEventListener('click', (event) => {
		const button = event.target.closest('[data-action]');
		if (button) handle(button.dataset.action, button.closest('li').dataset.id);
	});
}

const SAMPLES = ['sample1', 'sample2', 'sample3'];
function emptyPage({ server, props, chat }) {
	const noWeights = server === 'no-weights';
	const empty = !chat.messages.length && !noWeights;
	$('no-weights').hidden = !noWeights;
	$('empty').hidden = !empty;
	$('messages').hidden = empty || noWeights;
	if (!empty) return;
	$('empty-title').textContent = props?.tealight?.name || props?.model_alias || 'tealight';
	$('samples').replaceChildren(...SAMPLES.map((key) => {
		const button = document.createElement('button');
		button.type = 'button';
		button.className = 'sample';
		button.textContent = t(key);
		return button;
	}));
}

/** Draws what depends on the server and the conversation: heading, banner, empty page. */
export function frame(state) {
	const { server, detail, locked, props, chat, answer } = state;
	document.body.dataset.state = answer && server === 'ready' ? 'generating' : server;
	const title = cleanTitle(chat.title) || t('newChat');
	$('title').textContent = title;
	document.title = chat.title ? `${isolated(title)} · tealight` : 'tealight';
	$('model').textContent = props?.model_alias ?? '';
	$('version').textContent = props?.tealight?.version ? `tealight ${props.tealight.version}` : '';
	const banner = { loading: t('loading'), offline: t('offline') }[server] ?? '';
	show($('banner-text'), locked ? t('locked') : banner);
	$('banner').hidden = !locked && !banner;
	$('banner').classList.toggle('bad', server === 'offline');
	show($('banner-button'), locked ? t('enterKey') : '');
	if (server === 'no-weights' && $('no-weights-text').textContent !== detail) $('no-weights-text').textContent = detail;
	emptyPage(state);
}

export function storageNotice(text) { show($('storage-notice'), text); }

/** The context that the conversation uses, from the answer being written or the last one. */
function usage({ chat, answer }) {
	if (answer?.chat === chat && answer.total) return { used: answer.total + answer.count, meta: {} };
	const meta = chat.messages.findLast((one) => one.meta.prompt_tokens)?.meta;
	return meta && { used: meta.prompt_tokens + (meta.completion_tokens || 0), meta };
}

export function meter(state) {
	const found = usage(state);
	const n = contextSize(state.props);
	$('meter').hidden = !found || !n;
	const full = Boolean(found && n && found.used >= n);
	show($('notice-text'), full ? `${t('contextFull', { n: number(n) })} ${t('contextAdvice')}` : '');
	$('notice').hidden = !full;
	if (!found || !n) return;
	const share = Math.min(found.used / n, 1);
	const values = { used: number(found.used), n: number(n), p: Math.round(share * 100) };
	const text = t(full ? 'ctxFull' : share >= 0.85 ? 'ctxWarn' : 'ctx', values);
	$('meter').dataset.level = share >= 0.85 ? 'warn' : 'ok';
	show($('meter-context'), text);
	const { prompt_per_second: r, predicted_per_second: w } = found.meta;
	show($('meter-speed'), w ? t(r ? 'speed' : 'speedW', { r: number(r, r < 10 ? 1 : 0), w: number(w, w < 10 ? 1 : 0) }) : '');
	const gauge = $('meter').querySelector('.gauge');
	const marks = { 'aria-label': t('ctxLabel'), 'aria-valuemax': n, 'aria-valuenow': Math.min(found.used, n), 'aria-valuetext': text };
	for (const [name, value] of Object.entries(marks)) gauge.setAttribute(name, value);
	gauge.firstElementChild.style.width = `${share * 100}%`;
}

export const retranslate = () => translate(document.body);
