// Input: pieces of an answer's Markdown as they arrive, and short notices. Output: whole sentences in an aria-live
// region, each once. Knows nothing of messages or the server.
import { t } from './i18n.js';

export function announcer(region) {
	let rest = '';
	let inCode = false;

	function say(text) {
		const line = document.createElement('p');
		line.textContent = text;
		region.append(line);
		while (region.childElementCount > 40) region.firstElementChild.remove();
	}

	function speak(line) {
		if (/^\s*(```|~~~)/.test(line)) {
			inCode = !inCode;
			if (inCode) say(t('codeSpoken'));
			return;
		}
		if (inCode || /^[\s|:-]*$/.test(line)) return;
		const words = line.replace(/^\s*(#+|>|[-*+])\s+/, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[*_`~]{1,3}/g, '').replace(/\s*\|\s*/g, ', ').trim();
		if (words) say(words);
	}

	return {
		say,
		start() { region.replaceChildren(); rest = ''; inCode = false; },
		feed(piece) {
			rest += piece;
			for (let end; (end = rest.search(inCode ? /\n/ : /\n|(?<=.{20}[.!?…:][)»”"*_]*)\s/)) >= 0;) {
				speak(rest.slice(0, end));
				rest = rest.slice(end + 1);
			}
		},
		finish(notice) { if (rest) speak(rest); rest = ''; inCode = false; say(notice); },
	};
}
