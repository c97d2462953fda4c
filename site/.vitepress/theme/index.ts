import type { Theme } from 'vitepress'
import theme from 'vitepress/theme'
import { defineComponent, h, onMounted, ref } from 'vue'

/** A diagram of Mermaid, which is loaded on pages with one alone. */
const Diagram = defineComponent({
  props: { code: { type: String, required: true } },
  setup({ code }) {
    const source = decodeURIComponent(code)
    const svg = ref('')
    onMounted(async () => {
      const { default: mermaid } = await import('mermaid')
      const dark = document.documentElement.classList.contains('dark')
      mermaid.initialize({ startOnLoad: false, theme: dark ? 'dark' : 'default' })
      svg.value = (await mermaid.render(`diagram-${Math.random().toString(36).slice(2)}`, source)).svg
    })
    return () => (svg.value ? h('div', { style: 'overflow-x: auto', innerHTML: svg.value }) : h('pre', source))
  },
})

export default {
  extends: theme,
  enhanceApp({ app }) {
    app.component('Diagram', Diagram)
  },
} satisfies Theme
