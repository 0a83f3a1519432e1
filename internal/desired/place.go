package desired

// place gives every rule of the family its priority, and compiles what can be.
func (s *ruleSet) place() {
	for i := range s.fixed {
		s.emit(&s.fixed[i], s.fixed[i].Priority)
	}
	s.placeAuto(nil)
}

func (s *ruleSet) makeSlots(b *band) {
	for i := range s.auto {
		b.slots = append(b.slots, slot{rules: s.auto[i : i+1], order: -1})
	}
}

func (s *ruleSet) settle(b *band) bool { return b.place(false) }

func (s *ruleSet) emitSlots(b *band) {
	for i := range b.slots {
		s.emit(&b.slots[i].rules[0], b.slots[i].at.first)
	}
}

type standingTree struct{ span }
type tree struct{}

func (t *tree) size() uint32 { return 0 }
