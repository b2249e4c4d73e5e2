// Input: /props, a conversation's settings, language, theme. Output: new settings when saved, a choice of language or
// theme immediately. Knows nothing of conversations or the store.
import { FIELDS, bundleDefaults, differing, effective, inRange } from './options.js';
import { t, translate, language } from './i18n.js';
import { wellFormed } from './text.js';
import { $, open } from './dialogs.js';

const fields = new Map(FIELDS.map((field) => {
	const box = $('t-field').content.cloneNode(true).firstElementChild;
	const [label, input, hint, bad] = box.children;
	input.id = `f-${field.key}`;
	label.htmlFor = input.id;
	hint.id = `h-${field.key}`;
	bad.id = `b-${field.key}`;
	input.setAttribute('aria-describedby', `${hint.id} ${bad.id}`);
	label.dataset.t = `f_${field.key}`;
	hint.dataset.t = `h_${field.key}`;
	Object.assign(input, { min: field.min, max: field.max, step: field.step });
	input.addEventListener('input', () => mark(field, true));
	$(field.main ? 'fields-main' : 'fields-more').append(box);
	return [field.key, { field, input, bad }];
}));

function mark(field, good) {
	const { input, bad } = fields.get(field.key);
	bad.hidden = good;
	bad.textContent = good ? '' : t('range', field);
	input.setAttribute('aria-invalid', !good);
}

function fill(values) {
	$('f-system').value = values.system;
	$('f-thinking').value = values.thinking;
	for (const { field, input } of fields.values()) { input.value = values[field.key]; mark(field, true); }
}

/** The values in the form, or null after showing and focusing the first wrong one. */
function read() {
	const values = { system: wellFormed($('f-system').value), thinking: $('f-thinking').value };
	let wrong = null;
	for (const { field, input } of fields.values()) {
		const value = input.value === '' ? NaN : Number(input.value);
		mark(field, inRange(field, value));
		if (!inRange(field, value)) wrong ??= input;
		values[field.key] = value;
	}
	if (!wrong) return values;
	wrong.closest('details')?.setAttribute('open', '');
	wrong.focus();
	return null;
}

export function setUp({ theme, onLanguage, onTheme }) {
	$('theme').value = theme;
	$('language').addEventListener('change', (event) => { onLanguage(event.target.value); translate($('settings')); });
	$('theme').addEventListener('change', (event) => onTheme(event.target.value));
}

/** Resolves to {settings, asDefault}, or to null if the dialog was closed without saving. */
export async function openSettings(props, settings) {
	translate($('settings'));
	$('language').value = language();
	fill(effective(props, settings));
	$('thinking-field').hidden = !props?.tealight?.thinks;
	$('as-default').checked = false;
	$('settings-reset').onclick = () => { fill(bundleDefaults(props)); };
	for (const id of ['chat-settings', 'settings-reset', 'settings-save']) $(id).hidden = !props; // not known yet
	let values = null;
	const accepted = await open($('settings'), () => Boolean(values = read()));
	return accepted ? { settings: differing(props, values), asDefault: $('as-default').checked } : null;
}
