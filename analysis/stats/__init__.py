"""Statistics of a run: frames and numbers in, frames and numbers out, nothing drawn or worded.

``tests`` has intervals and scores of accuracies, each with its source; ``repeats`` says which
seeds speak for a recipe, ``cells`` goes from trials to cells, ``pairs`` compares models text by
text, with the tests of ``sweep.verdicts``, ``scope`` says of what its verdicts speak, ``answers``
which model is best, ``extrapolation`` looks at more samples, ``transfer`` at tuning with fewer,
``confusion`` at labels, ``costs`` at time, memory and epochs. Imports analysis.load and never
altair or jinja2.
"""
