// Limits shared by the page and the program, which reads this file at build time (src/server/chats.rs).

/** Most bytes in a file of conversations: an export, an import, or the file that --portable keeps. */
export const FILE_BYTES_MAX = 64000000;
/** Most conversations in one file. */
export const CHATS_MAX = 10000;
