// Input: any text. Output: text that can be stored, cut, and shown beside other text. JavaScript strings are UTF-16 and
// may hold lone surrogates, which JSON for other programs must not. Knows nothing of conversations or elements.

/** The text with lone surrogates replaced. */
export const wellFormed = (text) => (text.isWellFormed?.() ? text : text.replace(/\p{Surrogate}/gu, '\uFFFD'));

/** JSON that every program can read. */
export const json = (value, indent) =>
	JSON.stringify(value, (key, inside) => (typeof inside === 'string' ? wellFormed(inside) : inside), indent);

const segmenter = 'Segmenter' in Intl ? new Intl.Segmenter(undefined, { granularity: 'grapheme' }) : null;

/** The text cut to at most `characters` graphemes and `units` UTF-16 code units. */
export function cut(text, characters, units = Infinity) {
	let end = 0;
	for (const part of segmenter ? segmenter.segment(text) : text) {
		const length = (part.segment ?? part).length;
		if (characters <= 0 || end + length > units) break;
		characters -= 1;
		end += length;
	}
	// One grapheme can be a letter and a thousand accents.
	return end || !text || characters <= 0 ? text.slice(0, end) : wellFormed(text.slice(0, units)).replace(/\uFFFD$/, '');
}

/** How many characters a text has, closely enough for display: its code points. */
export function count(text) {
	let halves = 0;
	for (let i = 0; i < text.length; i += 1) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) halves += 1;
	return text.length - halves;
}

/** A title: one line, without characters that would change the direction of the text beside it. */
export const title = (text) => wellFormed(text).replace(/[\u202A-\u202E\u2066-\u2069]/g, '').replace(/[\s\p{Cc}]+/gu, ' ').trim();

/** A title for plain text: right-to-left script is isolated from the text beside it. */
export const isolated = (text) => (/[\u0590-\u08FF\u200F\uFB1D-\uFDFF\uFE70-\uFEFC\u{10800}-\u{10FFF}\u{1E800}-\u{1EFFF}]/u.test(text) ? `\u2068${text}\u2069` : text);
