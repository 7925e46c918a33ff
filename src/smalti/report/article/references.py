"""The papers that an article cites: only those whose method was used."""

from __future__ import annotations

from ..subject import Subject

PAPERS = {
    "forman2010": r"G.~Forman and M.~Scholz. Apples-to-apples in cross-validation studies: pitfalls in classifier "
    r"performance measurement. \emph{ACM SIGKDD Explorations} 12(1):49--57, 2010.",
    "opitz2019": r"J.~Opitz and S.~Burst. Macro F1 and macro F1. \emph{arXiv:1911.03347}, 2019.",
    "wilson1927": r"E.~B.~Wilson. Probable inference, the law of succession, and statistical inference. \emph{Journal "
    r"of the American Statistical Association} 22(158):209--212, 1927.",
    "efron1993": r"B.~Efron and R.~J.~Tibshirani. \emph{An Introduction to the Bootstrap}. Chapman \& Hall, 1993.",
    "holm1979": r"S.~Holm. A simple sequentially rejective multiple test procedure. \emph{Scandinavian Journal of "
    r"Statistics} 6(2):65--70, 1979.",
    "cameron2011": r"A.~C.~Cameron, J.~B.~Gelbach and D.~L.~Miller. Robust inference with multiway clustering. "
    r"\emph{Journal of Business \& Economic Statistics} 29(2):238--249, 2011.",
    "lakens2017": r"D.~Lakens. Equivalence tests: a practical primer for $t$ tests, correlations, and meta-analyses. "
    r"\emph{Social Psychological and Personality Science} 8(4):355--362, 2017.",
    "tsamardinos2018": r"I.~Tsamardinos, E.~Greasidou and G.~Borboudakis. Bootstrapping the out-of-sample predictions "
    r"for efficient and accurate cross-validation. \emph{Machine Learning} 107(12):1895--1922, 2018.",
    "guo2017": r"C.~Guo, G.~Pleiss, Y.~Sun and K.~Q.~Weinberger. On calibration of modern neural networks. "
    r"\emph{Proc.\ 34th International Conference on Machine Learning (ICML)}, 2017.",
    "caruana2004": r"R.~Caruana, A.~Niculescu-Mizil, G.~Crew and A.~Ksikes. Ensemble selection from libraries of "
    r"models. \emph{Proc.\ 21st International Conference on Machine Learning (ICML)}, 2004.",
    "wolpert1992": r"D.~H.~Wolpert. Stacked generalization. \emph{Neural Networks} 5(2):241--259, 1992.",
}
# Part of a ``knob=value`` -> the paper of that value.
USES = {
    "predict.calibration=temperature": "guo2017",
    "ensemble.method=greedy": "caruana2004",
    "ensemble.method=stack": "wolpert1992",
}


def choose_papers(subject: Subject) -> dict[str, str]:
    """Return key -> text of the papers that belong to this subject, in the order of the list."""
    used = {"forman2010", "opitz2019", "wilson1927", "cameron2011"}
    if subject.compared:
        used |= {"efron1993", "holm1979"} | ({"lakens2017"} if subject.margin > 0 else set())
    if subject.choice is not None and subject.choice.runs > 1:
        used.add("tsamardinos2018")
    settings = {setting.replace(" ", "") for candidate in subject.candidates for setting in candidate.settings}
    settings |= {f"{knob}={value}" for knob, value in subject.recipe.items()}
    used |= {key for start, key in USES.items() if any(setting.startswith(start) for setting in settings)}
    return {key: text for key, text in PAPERS.items() if key in used}
