(() => {
	const parse = color => { const n = color.match(/[\d.]+/g).map(Number); return {rgb: n.slice(0, 3), alpha: n.length > 3 ? n[3] : 1} }
	const over = (top, below) => top.rgb.map((c, i) => c * top.alpha + below[i] * (1 - top.alpha))
	const behind = element => {
		const layers = []
		for (let e = element; e; e = e.parentElement) {
			const layer = parse(getComputedStyle(e).backgroundColor)
			layers.push(layer)
			if (layer.alpha === 1) break
		}
		const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255]
		return layers.reverse().reduce((below, layer) => over(layer, below), canvas)
	}
	const luminance = rgb => {
		const [r, g, b] = rgb.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
		return .2126 * r + .7152 * g + .0722 * b
	}
	const faint = []
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
	while (texts.nextNode()) {
		const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement, style = getComputedStyle(element)
		if (!text || !element.checkVisibility() || style.clipPath !== "none") continue
		const ground = behind(element), ink = over(parse(style.color), ground)
		const [light, dark] = [luminance(ink), luminance(ground)].sort((a, b) => b - a)
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && parseFloat(style.fontWeight) >= 700
		const ratio = (light + .05) / (dark + .05)
		if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)} of “${text.slice(0, 40)}”`)
	}
	return faint
})()
