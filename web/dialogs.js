// Input: a question. Output: a promise of the answer. Also copies text, shows toasts and saves files. Knows nothing of
// what a question is about.
import { t } from './i18n.js';

export const $ = (id) => document.getElementById(id);

/** Opens a <dialog>; resolves to true if it was submitted and `check` accepted it. */
export function open(dialog, check = () => true) {
	return new Promise((resolve) => {
		const form = dialog.querySelector('form');
		let accepted = false;
		form.onsubmit = (event) => {
			event.preventDefault();
			accepted = check();
			if (accepted) dialog.close();
		};
		dialog.onclick = (event) => { if (event.target.closest('[data-close]')) dialog.close(); };
		dialog.onclose = () => resolve(accepted);
		dialog.showModal();
	});
}

/** Asks for confirmation or, with a `label`, for text. Resolves to true or the text, or to null if cancelled. */
export async function ask({ title, text = '', ok, danger = false, label = '', value = '', secret = false }) {
	const input = $('ask-input');
	$('ask-title').textContent = title;
	$('ask-text').textContent = text;
	$('ask-text').hidden = !text;
	$('ask-label').hidden = !label;
	$('ask-name').textContent = label;
	input.type = secret ? 'password' : 'text';
	input.value = value;
	$('ask-ok').textContent = ok;
	$('ask-ok').classList.toggle('danger', danger);
	const answer = open($('ask'), () => !label || input.value.trim() !== '');
	if (label) input.select();
	const accepted = await answer;
	const given = input.value.trim();
	input.value = '';
	return accepted ? (label ? given : true) : null;
}

let hiding;
export function toast(text) {
	$('toast').textContent = text;
	$('toast').classList.add('on');
	clearTimeout(hiding);
	hiding = setTimeout(() => { $('toast').classList.remove('on'); $('toast').textContent = ''; }, 3500);
}

export async function copy(text, button) {
	let done = true;
	try {
		await navigator.clipboard.writeText(text);
	} catch { // no permission, or a plain-http address: the old way
		const area = document.createElement('textarea');
		area.className = 'vh';
		area.value = text;
		document.body.append(area);
		area.select();
		done = document.execCommand('copy');
		area.remove();
		button.focus();
	}
	toast(t(done ? 'copied' : 'copyFailed'));
}

export function saveFile(name, text) {
	const link = document.createElement('a');
	link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
	link.download = name;
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
