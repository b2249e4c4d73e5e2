// What the page and the program agree on; the program reads this file when it is built (src/server/chats.rs).

/** Bytes of a file of conversations: of an export, of an import, and of what --portable keeps. */
export const FILE_BYTES_MAX = 64000000;
/** Conversations in one. */
export const CHATS_MAX = 10000;
