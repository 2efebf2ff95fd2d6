package deploy

// Progress is what happens meanwhile, for people: a step in a word or two, and what it is about.
type Progress struct {
	Step, Text string
	Output     bool // Text is a line that a build printed
}

type progress func(Progress)

func (p progress) say(step, text string) {
	if p != nil {
		p(Progress{Step: step, Text: text})
	}
}

func (p progress) output(line string) {
	if p != nil {
		p(Progress{Text: line, Output: true})
	}
}
