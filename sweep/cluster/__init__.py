"""The machines: what they have, how Ray is reached, and what a trial gets of them."""
