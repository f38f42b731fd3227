"""python -m maquette"""

from maquette.cli.main import main

main()
