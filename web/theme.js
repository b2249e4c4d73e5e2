// Input: the saved choice, the system's colour scheme, `tealight:theme` events. Output: <html data-theme>. A classic
// script, so that it runs before the first paint. Knows nothing else.
(() => {
	const dark = matchMedia('(prefers-color-scheme: dark)');
	let choice = 'system';
	try { choice = JSON.parse(localStorage.getItem('tealight.theme')) || 'system'; } catch { /* storage is off */ }
	const paint = () => {
		const theme = choice === 'light' || choice === 'dark' ? choice : dark.matches ? 'dark' : 'light';
		document.documentElement.dataset.theme = theme;
	};
	paint();
	dark.addEventListener('change', paint);
	addEventListener('tealight:theme', (event) => { choice = event.detail; paint(); });
})();
