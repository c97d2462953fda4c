import { defineConfig } from 'vite'

/** `vite` in this folder serves the page alone while one works on it; an XQueue server on 8080 answers its calls. */
export default defineConfig({
  // The page may be served below a path of a proxy: it asks for everything relative to itself.
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0, // The policy of the page allows nothing inline.
    chunkSizeWarningLimit: 200,
  },
  server: {
    proxy: {
      '/api': 'http://localhost:8080',
    },
  },
})
