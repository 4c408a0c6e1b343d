"""What may come in a body: strict JSON of bounded size (`reading`), as models (`schemas`)."""
