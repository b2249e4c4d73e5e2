// Input: a language code. Output: t(key, values), number(), and translated elements, which name their key: data-t
// (text), data-label (aria-label, tooltip), data-hint (placeholder). Knows nothing of the page.

const LANGUAGES = ['en', 'es'];
// One per line: key|English|Spanish, the last only if it differs.
const texts = new Map(`
skip|Skip to the message box|Ir al cuadro de mensaje
conversations|Conversations|Conversaciones
newChat|New chat|Nueva conversación
search|Search titles|Buscar títulos
noConversations|Your conversations will appear here. They stay with you.|Aquí verás tus conversaciones. Se quedan contigo.
import|Import|Importar
export|Export|Exportar
exportAll|Export all|Exportar todo
toggleList|Show or hide the conversations|Mostrar u ocultar las conversaciones
settings|Settings|Ajustes
help|Help|Ayuda
close|Close|Cerrar
cancel|Cancel|Cancelar
save|Save|Guardar
ok|OK|Aceptar
loading|Loading the model… You can already type.|Cargando el modelo… Ya puedes escribir.
offline|tealight has stopped. Start it again; this page reconnects on its own.|tealight ya no está en marcha. Inícialo de nuevo: esta página se reconecta sola.
locked|This server requires a key.|Este servidor pide una clave.
enterKey|Enter the key|Introducir la clave
waitReady|The model is not ready yet.|El modelo aún no está listo.
waitBusy|An answer is still being written.|Todavía se está escribiendo una respuesta.
memoryOnly|Nothing can be stored here (private mode?). Conversations last until you close this tab.|Aquí no se puede guardar nada (¿modo privado?). Las conversaciones duran hasta que cierres esta pestaña.
saveFailed|Not saved; storage may be full. Export this conversation to keep it.|No se pudo guardar; puede que no quede espacio. Exporta esta conversación para conservarla.
noWeightsTitle|No model available|No hay ningún modelo disponible
privacy|Runs on this computer. Nothing you type leaves it.|Funciona en este ordenador. Nada de lo que escribes sale de él.
samples|Examples|Ejemplos
sample1|Explain how a candle burns, in simple words|Explica con palabras sencillas cómo arde una vela
sample2|Write a short, friendly email to move a meeting to Tuesday|Escribe un correo breve y amable para pasar una reunión al martes
sample3|Give me three ideas for a quick dinner with eggs|Dame tres ideas para una cena rápida con huevos
messages|Messages|Mensajes
jump|Jump to latest|Ir al final
composer|Your message|Tu mensaje
placeholder|Write a message…|Escribe un mensaje…
send|Send|Enviar
stop|Stop|Detener
footnote|Models make mistakes. Check important facts.|Los modelos se equivocan. Comprueba lo importante.
you|You|Tú
assistant|Answer|Respuesta
edit|Edit|Editar
editLabel|Edit your message|Edita tu mensaje
editHint|Sending replaces everything after this message.|Al enviar, se reemplaza todo lo que sigue a este mensaje.
copy|Copy|Copiar
copyCode|Copy the code|Copiar el código
copied|Copied|Copiado
copyFailed|Couldn't copy|No se pudo copiar
regenerate|Answer again|Responder de nuevo
retry|Try again|Reintentar
showAll|Show all ({n} characters)|Mostrar todo ({n} caracteres)
code|Code|Código
table|Table|Tabla
task|Task|Tarea
rename|Rename|Cambiar el título
renameTitle|Rename the conversation|Cambiar el título de la conversación
titleLabel|Title|Título
deleteTitle|Delete this conversation?|¿Borrar esta conversación?
deleteText|“{title}” will be deleted permanently. There is no other copy.|«{title}» se borrará para siempre: no hay otra copia.
delete|Delete|Borrar
waiting|Waiting for the model…|Esperando al modelo…
queued|Waiting… {n} before you|Esperando… {n} por delante
next|Waiting… you are next|Esperando… te toca enseguida
reading|Reading… {p}%|Leyendo… {p} %
readingSpoken|Reading your message…|Leyendo tu mensaje…
writing|Writing…|Escribiendo…
thinking|Thinking…|Pensando…
thought|Thought for {n} s|Pensó {n} s
finished|Answer finished|Respuesta terminada
stopped|Stopped|Detenida
codeSpoken|Code block.|Bloque de código.
st_aborted|You stopped this answer.|Detuviste esta respuesta.
st_partial|This answer was interrupted: the page was closed or reloaded.|Esta respuesta quedó a medias: la página se cerró o se recargó.
st_empty|The model gave an empty answer.|El modelo dio una respuesta vacía.
st_length|Cut off at the maximum length. Raise it in Settings, or ask for a shorter answer.|Cortada al llegar a la longitud máxima. Auméntala en Ajustes o pide una respuesta más corta.
st_context|Cut off: the context of {n} tokens is full.|Cortada: el contexto de {n} tokens está lleno.
contextFull|The context is full: the model can see only {n} tokens at once.|El contexto está lleno: el modelo solo ve {n} tokens a la vez.
contextAdvice|Start a new chat, write less, or start tealight with a larger --ctx-size.|Empieza una conversación nueva, escribe menos o inicia tealight con un --ctx-size mayor.
e_offline|tealight stopped before the answer was complete.|tealight se detuvo antes de terminar la respuesta.
e_cut|The connection was lost before the answer was complete.|La conexión se perdió antes de que terminara la respuesta.
e_busy|tealight is busy. Try again in a moment.|tealight está ocupado. Reinténtalo en un momento.
e_context|Too long for the model: {used} tokens, but there is only room for {n}.|Demasiado largo para el modelo: {used} tokens, pero solo caben {n}.
e_key|This server requires a key.|Este servidor pide una clave.
e_large|This message is too large to send.|Este mensaje es demasiado grande para enviarlo.
e_other|Something went wrong: {message}|Algo salió mal: {message}
keyTitle|This server requires a key|Este servidor pide una clave
keyText|It was started with --api-key. The key is kept until you close this tab.|Se inició con --api-key. La clave se guarda hasta que cierres esta pestaña.
keyWrong|That key was not accepted. Try another one.|Esa clave no es válida. Prueba con otra.
keyLabel|Key|Clave
keyOk|Continue|Continuar
ctxLabel|Context used|Contexto usado
ctx|Context {used} of {n} ({p}%)|Contexto {used} de {n} ({p} %)
ctxWarn|Context {used} of {n} ({p}%), almost full|Contexto {used} de {n} ({p} %), casi lleno
ctxFull|Context {used} of {n}, full|Contexto {used} de {n}, lleno
speed|read {r} · wrote {w} tokens/s|leyó {r} · escribió {w} tokens/s
speedW|wrote {w} tokens/s|escribió {w} tokens/s
language|Language|Idioma
theme|Theme|Tema
themeSystem|Same as system|El del sistema
themeLight|Light|Claro
themeDark|Dark|Oscuro
thisChat|This chat|Esta conversación
moreSettings|Advanced settings|Ajustes avanzados
asDefault|Use these for new chats too|Usar también en conversaciones nuevas
reset|Reset to defaults|Restablecer los valores predeterminados
range|A number from {min} to {max}.|Un número de {min} a {max}.
f_system|System prompt|Instrucciones del sistema
h_system|What the model reads first, for example “Answer briefly.”|Lo que el modelo lee primero, por ejemplo «Responde brevemente».
f_thinking|Thinking|Pensar antes de responder
h_thinking|Whether the model thinks before it answers: slower, and better at hard questions.|Si el modelo piensa antes de responder: tarda más y acierta más en preguntas difíciles.
thinkingAuto|As the model does by itself|Lo que haga el modelo
thinkingOn|Think first|Pensar primero
thinkingOff|Answer at once|Responder enseguida
f_temperature|Temperature|Temperatura
h_temperature|Lower is steadier, higher is more varied. 0 always picks the likeliest word.|Cuanto más baja, más estable; cuanto más alta, más variada. Con 0 se elige siempre la palabra más probable.
f_max_tokens|Maximum length|Longitud máxima
h_max_tokens|Maximum number of tokens (pieces of words) in one answer. -1: until the model stops.|Máximo de tokens (trozos de palabra) por respuesta. -1: hasta que el modelo termine.
f_top_k|Top K
h_top_k|Choose only among this many of the likeliest words. 0: no limit.|Elige solo entre esta cantidad de palabras, las más probables. 0: sin límite.
f_top_p|Top P
h_top_p|Choose among the likeliest words whose probabilities add up to this. 1: all words.|Elige entre las palabras más probables cuyas probabilidades suman este valor. 1: todas.
f_min_p|Min P
h_min_p|Drop words whose probability is below this fraction of the likeliest word's. 0: keep all.|Descarta las palabras cuya probabilidad no llega a esta fracción de la de la más probable. 0: ninguna.
f_repeat_penalty|Repeat penalty|Penalización por repetición
h_repeat_penalty|Above 1, recently used words become less likely.|Por encima de 1, las palabras recién usadas son menos probables.
f_presence_penalty|Presence penalty|Penalización por presencia
h_presence_penalty|Above 0 favours words that have not appeared yet.|Por encima de 0, favorece palabras que aún no han aparecido.
f_frequency_penalty|Frequency penalty|Penalización por frecuencia
h_frequency_penalty|Above 0 makes a word less likely each time it appears.|Por encima de 0, una palabra es menos probable cada vez que aparece.
f_seed|Seed|Semilla
h_seed|The same seed repeats the same choices. -1 picks one at random.|La misma semilla repite las mismas elecciones. -1 toma una al azar.
helpAbout|Conversations stay with you: export them to keep a copy or to move them.|Las conversaciones se quedan contigo: expórtalas para guardar una copia o moverlas.
shortcuts|Keyboard|Teclado
keySend|Send the message|Enviar el mensaje
keyLine|New line|Nueva línea
keyEsc|Stop the answer, or close a dialog or the list|Detener la respuesta, o cerrar un diálogo o la lista
keyFocus|Go to the message box|Ir al cuadro de mensaje
imported|Imported {n} conversations|{n} conversaciones importadas
imported1|Imported 1 conversation|1 conversación importada
importFailed|Couldn't import this file|No se pudo importar este archivo
i_size|The file is larger than {n} MB.|El archivo ocupa más de {n} MB.
i_json|Not a JSON file: {message}|No es un archivo JSON: {message}
i_format|This is not a tealight export.|No es una exportación de tealight.
i_type|“{path}” must be {what}.|«{path}» debe ser {what}.
i_long|“{path}” is too long: the maximum is {n}.|«{path}» es demasiado largo: el máximo es {n}.
w_list|a list|una lista
w_object|an object|un objeto
w_text|text|texto
w_number|a number|un número
w_role|"user" or "assistant"|"user" o "assistant"
w_choice|one of {values}|uno de {values}
w_range|a number from {min} to {max}|un número de {min} a {max}
`.trim().split('\n').map((line) => line.split('|')).map(([key, ...all]) => [key, all]));

let lang = 'en';

export function setLanguage(code) {
	lang = LANGUAGES.includes(code) ? code : 'en';
	document.documentElement.lang = lang;
}

export const language = () => lang;

export function preferredLanguage() {
	return navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((code) => LANGUAGES.includes(code)) || 'en';
}

/** The text of `key`, with {name} replaced by values.name; an unknown key shows itself. */
export function t(key, values = {}) {
	const all = texts.get(key);
	const text = all?.[LANGUAGES.indexOf(lang)] ?? all?.[0] ?? key;
	return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export const number = (value, digits = 0) =>
	new Intl.NumberFormat(lang, { maximumFractionDigits: digits }).format(value);

/** Translates every marked element under `root`, and gives `root` back. */
export function translate(root) {
	for (const el of root.querySelectorAll('[data-t]')) el.textContent = t(el.dataset.t);
	for (const el of root.querySelectorAll('[data-label]')) {
		el.setAttribute('aria-label', t(el.dataset.label));
		if (el.tagName === 'BUTTON') el.title = t(el.dataset.label);
	}
	for (const el of root.querySelectorAll('[data-hint]')) el.placeholder = t(el.dataset.hint);
	return root;
}
