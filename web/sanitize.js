// Input: an HTML fragment from the server, rendered from a model's output. Output: a DocumentFragment rebuilt from an
// allow-list. This is the second line of defence: the server already escapes. Knows nothing of where it is shown.

const words = (text) => new Set(text.split(' '));
const HTML = 'http://www.w3.org/1999/xhtml';
const MATHML = 'http://www.w3.org/1998/Math/MathML';

// Exactly what src/render/ writes; its tests read these lists.
const HTML_TAGS = words('p br hr h3 h4 h5 h6 blockquote ul ol li pre code span em strong del a table thead tbody tr th td input');
const MATH_TAGS = words('math mrow mi mn mo mtext mspace msub msup msubsup munder mover munderover mfrac msqrt mroot mtable mtr mtd mpadded mphantom mmultiscripts mprescripts none');
const MATH_ATTRS = words('display displaystyle scriptlevel mathvariant stretchy symmetric largeop movablelimits accent accentunder fence separator form lspace rspace minsize maxsize width height depth voffset linethickness columnspan rowspan');
const DROPPED = words('script style template iframe frame object embed noscript textarea title xmp noembed noframes svg audio video select button form head link meta base');
const CLASSES = words('code continued raw-html image-link link-definition math-source align-left align-center align-right');
const MATH_CLASSES = words('math-boxed small mop-negated cell-left cell-right menv-align menv-alignlike menv-arraylike menv-border-only menv-cases menv-cells-left menv-cells-right menv-hdashline menv-hline menv-left-dashed menv-left-solid menv-multline menv-nonumber menv-right-dashed menv-right-solid menv-with-eqn');
const CODE_CLASSES = words('hl-attribute-name hl-bold hl-builtin hl-changed hl-character hl-class hl-comment hl-constant hl-control hl-deleted hl-documentation hl-entity hl-escape hl-function hl-heading hl-inserted hl-invalid hl-italic hl-key hl-keyword hl-language hl-link hl-macro hl-markup hl-modifier hl-module hl-numeric hl-operator hl-parameter hl-quote hl-raw hl-regexp hl-section hl-storage hl-string hl-struct hl-support hl-tag hl-type hl-variable');
const HTML_ATTRS = {
	ol: { start: /^\d{1,9}$/ },
	pre: { 'data-lang': /^[\w+#.-]{1,40}$/ },
};
const DEEPEST = 150;

function link(node, out) {
	let target;
	try { target = new URL(node.getAttribute('href')); } catch { return; }
	if (!/^(https?|mailto):$/.test(target.protocol)) return;
	out.href = target.href;
	out.title = target.href;
	out.target = '_blank';
	out.rel = 'noopener noreferrer nofollow';
}

function attributes(node, out, tag, math) {
	const known = math ? [MATH_CLASSES] : [CLASSES, CODE_CLASSES];
	const kept = [...node.classList].filter((name) => known.some((names) => names.has(name)));
	if (kept.length) out.setAttribute('class', kept.join(' '));
	if (math) {
		for (const { name, value } of node.attributes) if (MATH_ATTRS.has(name) && value.length < 400) out.setAttribute(name, value);
		return;
	}
	for (const [name, shape] of Object.entries(HTML_ATTRS[tag] ?? {})) {
		const value = node.getAttribute(name);
		if (value !== null && shape.test(value)) out.setAttribute(name, value);
	}
	if (tag === 'a') link(node, out);
	if (tag === 'input') { out.type = 'checkbox'; out.disabled = true; out.checked = node.hasAttribute('checked'); }
}

function copy(node, parent, depth, inMath) {
	if (node.nodeType === Node.TEXT_NODE) { parent.append(node.data); return; }
	if (node.nodeType !== Node.ELEMENT_NODE) return;
	const tag = node.localName;
	if (DROPPED.has(tag)) return;
	if (depth > DEEPEST) { parent.append(node.textContent); return; }
	const math = node.namespaceURI === MATHML && MATH_TAGS.has(tag) && (inMath || tag === 'math');
	const html = !inMath && node.namespaceURI === HTML && HTML_TAGS.has(tag)
		&& (tag !== 'input' || node.getAttribute('type') === 'checkbox');
	let into = parent;
	if (math || html) {
		into = document.createElementNS(math ? MATHML : HTML, tag);
		attributes(node, into, tag, math);
		parent.append(into);
	} else if (tag === 'img') {
		parent.append(node.getAttribute('alt') ?? '');
	}
	for (const child of node.childNodes) copy(child, into, depth + 1, math);
}

export function fragment(source) {
	const out = document.createDocumentFragment();
	const parsed = new DOMParser().parseFromString(source, 'text/html'); // inert: runs and fetches nothing
	for (const child of parsed.body.childNodes) copy(child, out, 0, false);
	return out;
}
