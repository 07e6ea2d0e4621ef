"""Mini-Taskonomy: Taskonomy's experiment in miniature, from rendered rooms to measured transfers.

Random rooms (:mod:`.scenes`) are ray-cast (:mod:`.render`); the labels of 20 of Taskonomy's tasks follow from the same
geometry (:mod:`.labels`). A small network is trained for each task (:mod:`.networks`, :mod:`.training`), and a readout
on its frozen features for every other task (:mod:`.transfer`): the losses of these are the truth that rankings of
sources are compared with. ``python -m dds_transfer.minitaskonomy`` runs all of it,
``python -m dds_transfer.minitaskonomy.compare`` compares the rankings of every method (:mod:`.methods`,
:mod:`.comparison`, :mod:`.summary`), and ``dds demo`` shows one with what the package holds of it (:mod:`.shipped`).
"""
