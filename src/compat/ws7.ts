/*
 * `fullduplex/ws7`: as `fullduplex/ws`, with texts as strings, which is what the package `ws` gave up to version 7.
 */
