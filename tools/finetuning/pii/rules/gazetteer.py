"""Common given and family names; small on purpose: a name outside them needs a cue.

Our own short selection of frequent names (English, German, French, Spanish, Portuguese, Italian,
Indian, Arabic and Chinese ones); it states no frequency, and it decides nothing alone: a name also
needs a capital letter or a cue beside it.
"""

from __future__ import annotations

from typing import Final

GIVEN: Final = frozenset(
    """
    Aaron Adam Adrian Aisha Alan Albert Alejandro Alex Alexander Alexandra Alice Alicia Amanda
    Amber Amelia Amit Amy Ana Anastasia Andrea Andreas Andrew Angela Anita Anjali Ann Anna Anne
    Anthony Antoine Antonio Arjun Arthur Ashley Barbara Beatriz Benjamin Bernard Beth Betty
    Birgit Bradley Brandon Brenda Brian Bruce Bruno Bryan Camila Camille Carl Carla Carlos
    Carmen Carol Caroline Catherine Charles Charlotte Cheryl Chloe Christian Christina Christine
    Christopher Claire Claudia Cynthia Daniel Daniela David Deborah Deepak Denise Dennis Diana
    Diego Dmitri Dominik Donald Donna Doris Dorothy Douglas Dylan Edward Eduardo Elena Elisabeth
    Elizabeth Ella Emily Emma Eric Erika Ethan Eugene Evelyn Fatima Felix Fernanda Fernando
    Florian Francesca Francis Frank Franziska Frederick Gabriel Gabriela Gary George Gerald
    Giovanni Giulia Gloria Greta Gregory Guillaume Hannah Hans Harold Harry Hassan Heather Heike
    Helen Helena Helga Henry Hiroshi Howard Ian Ibrahim Ingrid Irene Isabel Isabella Ivan Jacob
    Jacqueline James Jamie Jan Jane Janet Janice Jason Javier Jean Jeffrey Jennifer Jeremy Jerry
    Jesse Jessica Joan Joao João Joe Joel Johanna John Johnny Jonas Jonathan Jorge Jose José
    Joseph Joshua Joyce Juan Judith Judy Julia Julian Juliana Julie Jürgen Justin Karen Karin
    Karl Katharina Katherine Kathleen Kathryn Katie Kavya Keith Kelly Kenneth Kevin Kimberly
    Klaus Kyle Larissa Larry Laura Lauren Laurent Lawrence Leonie Lena Leon Leonardo Liam Linda
    Lisa Logan Lori Louis Louise Luca Lucas Lucia Lucy Luis Luiz Lukas Madison Manuel Marcel
    Marco Marcos Margaret Maria María Mariana Marie Marilyn Mario Markus Martha Martin Mary
    Mateo Mathieu Matthew Maurice Max Maximilian Megan Melanie Melissa Mia Michael Michelle
    Miguel Mohamed Mohammed Monika Monica Muhammad Nancy Natalie Nathan Neha Nicholas Nicolas
    Nicole Nikolai Nina Noah Noor Olga Oliver Olivia Omar Oscar Pablo Pamela Patricia Patrick
    Paul Paula Pauline Pedro Peter Petra Philip Philipp Pierre Pooja Priya Rachel Rafael Rahul
    Rajesh Ralph Ramesh Raymond Rebecca Renate Ricardo Richard Robert Roberto Roger Ronald Rosa
    Roy Russell Ruth Ryan Sabine Samantha Samuel Sandra Sanjay Sara Sarah Scott Sean Sebastian
    Sergio Sharon Shirley Simon Sofia Sophia Sophie Stefan Stephanie Stephen Steven Sunil Suresh
    Susan Susanne Sven Sylvia Tamara Tanja Tatiana Teresa Terry Theresa Thiago Thomas Tiffany
    Timothy Tobias Tom Tyler Ursula Valentina Valerie Vanessa Veronica Victor Victoria Vijay
    Vikram Vincent Virginia Walter Wayne Wendy Wilhelm William Wolfgang Xavier Yasmin Yuki Yusuf
    Yves Zachary Zoe
    """.split()
)
"""Given names that are hardly ever anything else when a capitalised word follows."""

AMBIGUOUS_GIVEN: Final = frozenset(
    """
    April Art Bill Bob Carter Chase Christian Cliff Dale Dawn Drew Faith Frank Gene Grace Grant
    Hope Hunter Iris Ivy Jack Jasmine Jim Joy June Lance Lily Mark Mason May Melody Mike Miles
    Nick Olive Parker Pat Paris Pearl Phil Ray Rich Rob Robin Rose Ruby Sam Savannah Sky Steve
    Stone Sue Summer Taylor Ted Tim Tony Violet Will
    """.split()
)
"""Given names that are also words: they count only beside a known family name."""

FAMILY: Final = frozenset(
    """
    Adams Ali Allen Almeida Alvarez Anderson Bailey Baker Bauer Becker Bell Bennett Bernard
    Brooks Brown Butler Campbell Carter Castillo Chan Chavez Chen Clark Clarke Collins Cook
    Cooper Costa Cox Cruz Davies Davis Diaz Dubois Durand Edwards Evans Ferreira Fischer Flores
    Foster Fournier Garcia García Gomez Gonzalez González Gray Green Griffin Gupta Gutierrez
    Hall Harris Hernandez Hernández Hill Hoffmann Howard Huang Hughes Ivanov Jackson James
    Jenkins Johnson Jones Kapoor Kaur Kelly Khan Kim King Klein Koch Kumar Lambert Lee Lefebvre
    Leroy Lewis Li Lim Lima Lin Liu Long Lopez López Martin Martinez Martínez Mehta Mendoza
    Meyer Miller Mitchell Moore Morales Moreau Morgan Morris Müller Murphy Myers Nelson Neumann
    Nguyen Novak Oliveira Ortiz Parker Patel Perez Pérez Pereira Perry Peterson Petit Phillips
    Popov Powell Price Ramirez Ramos Reddy Reed Reyes Reynolds Richard Richardson Richter Rivera
    Roberts Robinson Rodrigues Rodriguez Rodríguez Rogers Romero Ross Rossi Roux Ruiz Russell
    Russo Sanchez Sánchez Sanders Santos Sato Schmidt Schmitt Schneider Schröder Schulz Schwarz
    Scott Sharma Silva Simon Singh Smirnov Smith Souza Stewart Sullivan Suzuki Tanaka Taylor
    Thomas Thompson Torres Tran Turner Verma Vogel Wagner Walker Wang Ward Watson Weber White
    Williams Wilson Wolf Wong Wood Wright Wu Yamamoto Yang Young Zhang Zhao Zhou Zimmermann
    """.split()
)

CHINESE_FAMILY: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏"
    "吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙史陶贺毛段郝顾龚邵万覃武钱"
    "戴严莫孔向汤赖文洪季祝舒阎齐殷庄葛尤柳章鲁欧阳司马上官诸葛"
)

NOT_NAMES: Final = frozenset(
    """
    A An And Are As At But By Can Could Did Do Does For From Had Has Have Hello Her Here Hi His
    How I If In Is It Its Just Let May My No Not Now Of On Or Our Please Should So Sorry Thank
    Thanks That The Their Them Then There These They This To Was We Were What When Where Which
    Who Why Will With Would Yes You Your Monday Tuesday Wednesday Thursday Friday Saturday
    Sunday Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec January February March April May June
    July August September October November December Street Avenue Road Lane Drive University
    College School Hospital Church Airport Inc Ltd LLC Corp Company Group Bank Hotel Park River
    Lake Island Mountain County City State Day Award Prize Foundation Museum Library Institute
    English French German Spanish Chinese American British Customer Support Service Team Sales
    Account Order Manager Director Engineer Assistant Sir Madam All Everyone Friend Everybody
    Colleague Colleagues Friends Client Agent Doctor Nurse Professor Teacher Patient User Admin
    """.split()
)
"""Capitalised words that follow a given name or a cue without being part of a name."""
