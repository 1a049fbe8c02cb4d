import type { Message } from '../../inbox.ts'
import { isPlainName } from './names.ts'

/*
 * What a client of version 2 may say: {"module": "/chat/chat_service.js", "params": {"type": "list"}}. It comes from
 * anybody, so everything about it is checked before anything is done with it.
 */

/** A message that is right in its form. */
export interface ServiceRequest {
  /** A whole path from the root, maybe with a slash before it. That there is such a module does not follow. */
  readonly module: string
  readonly params: Readonly<Record<string, unknown>>
}

/** Levels of objects and lists in a message, the message itself counted. */
const MAX_DEPTH = 32
const FORM = '{"module": "...", "params": {...}}'
/** Keys that reach the prototype of whatever they are copied to. */
const FORBIDDEN_KEYS = ['__proto__', 'constructor', 'prototype']

/** Reads a message; `problem` is a sentence for whoever has sent it. */
export function parseServiceRequest(data: Message, maxBytes: number): ServiceRequest | { readonly problem: string } {
  if (typeof data !== 'string') return { problem: `Send text, ${FORM}, not bytes.` }
  if (Buffer.byteLength(data) > maxBytes) return { problem: `The message has more than ${maxBytes} bytes.` }
  let content: unknown
  try {
    content = JSON.parse(data)
  } catch {
    return { problem: `The message is not JSON; send ${FORM}.` }
  }
  if (!isObject(content)) return { problem: `The message is no object; send ${FORM}.` }
  const problem = findProblem(content)
  if (problem !== undefined) return { problem }
  const { module, params = {} } = content
  if (typeof module !== 'string') return { problem: '"module" must be the name of a module.' }
  if (!isPlainName(module)) return { problem: '"module" is not the plain path of a module.' }
  if (!isObject(params)) return { problem: '"params" must be an object.' }
  return { module, params }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function findProblem(content: object): string | undefined {
  let level: object[] = [content]
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return `The message has more than ${MAX_DEPTH} levels.`
    const forbidden = level.flatMap(Object.keys).find((key) => FORBIDDEN_KEYS.includes(key))
    if (forbidden !== undefined) return `The key ${forbidden} is not allowed.`
    level = level
      .flatMap((value) => Object.values(value))
      .filter((value) => typeof value === 'object' && value !== null)
  }
  return undefined
}
