// Input: the program's table of settings (controls.js, which the program generates), /props, and a conversation's
// settings (only what differs from the bundle's defaults). Output: the effective values, and the body of a request.
// Knows nothing of elements or the network.

// An older program makes no such file; then the page has no controls.
export const { FIELDS } = await import('./controls.js').catch(() => ({ FIELDS: [] }));

/** Whether a model thinks before it answers: as it does by itself, always, or never. */
export const THINKING = ['auto', 'on', 'off'];

export function inRange(field, value) {
	return Number.isFinite(value) && value >= field.min && value <= field.max && (field.step !== 1 || Number.isInteger(value));
}

/** The bundle's defaults: {system, temperature, …}. */
export function bundleDefaults(props) {
	const params = props?.default_generation_settings?.params ?? {};
	const out = { system: String(props?.tealight?.system_prompt ?? ''), thinking: THINKING[0] };
	for (const field of FIELDS) {
		const value = field.key === 'max_tokens' ? params.max_tokens ?? params.n_predict : params[field.key];
		out[field.key] = inRange(field, value) ? Number(value.toFixed(4)) : field.value;
	}
	return out;
}

export const effective = (props, settings) => ({ ...bundleDefaults(props), ...settings });

/** Those of `values` that differ from the bundle's defaults. */
export function differing(props, values) {
	const base = bundleDefaults(props);
	return Object.fromEntries(Object.entries(values).filter(([key, value]) => base[key] !== value));
}

export const contextSize = (props) => Number(props?.n_ctx ?? props?.default_generation_settings?.n_ctx) || 0;

/** The body of a chat request for the messages so far. Messages that were too long for the model are left out.
 * Consecutive messages of the same role are joined, because many templates refuse them. */
export function requestBody(props, { settings, messages }) {
	const { system, thinking, ...numbers } = settings;
	const prompt = (system ?? bundleDefaults(props).system).trim();
	const sent = prompt ? [{ role: 'system', content: prompt }] : [];
	for (const [i, { role, content, thoughts }] of messages.entries()) {
		const { error } = messages[i + 1]?.meta ?? {};
		if (!content || (role === 'user' && (error === 'exceed_context_size_error' || error === '413'))) continue;
		const last = sent.at(-1);
		if (last?.role === role) last.content += `\n\n${content}`;
		else sent.push({ role, content, ...(thoughts && { reasoning_content: thoughts }) });
	}
	return { messages: sent, stream: true, stream_options: { include_usage: true }, return_progress: true, render: 'html', ...(thinking && thinking !== THINKING[0] && { enable_thinking: thinking === 'on' }), ...numbers };
}
