// Loaded before a server, with --import: objects that live beside it, as in a program of some size. V8 has to mark all of
// them each time that it collects the whole heap.
export const objects = Array.from({ length: Number(process.env.HEAP_OBJECTS) }, (_, index) => ({
  index,
  name: `object ${index}`,
  list: [index],
}))
