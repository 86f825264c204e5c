"""Short English prompts on known themes, the texts behind `load_prompt_activations`.

A theme holds things (noun phrases), claims (true statements) and tasks (verb phrases).
They are put into phrasings that all themes share, so that the words around a subject do
not give its theme away, and some themes are close on purpose: physics and astronomy,
Python and debugging, anatomy and medicine.

Each prompt names several things of its theme. A prompt with one thing only is mostly
phrasing, and the activations of such prompts group by phrasing instead of by theme.

Run this file to read the prompts: `python benchmarks/prompt_themes.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

# {all} and {any} stand for the things, joined by "and" or by "or".
THING_PHRASINGS = (
    "Explain {all}.",
    "Which is best known: {any}?",
    "Compare {all}.",
    "What links {all}?",
    "Describe {all}.",
    "Summarise {all}.",
    "Tell me about {all}.",
    "Which should I study first: {any}?",
    "I want to read about {all}.",
    "Quiz me on {all}.",
    "Why do {all} matter?",
    "Write a note on {all}.",
    "{all}: give me an overview.",
    "What have {all} in common?",
    "Have you heard of {any}?",
    "How do {all} differ?",
    "{any}: which should I choose?",
    "Is there a link between {all}?",
    "Please discuss {all}.",
    "Where do {all} come up?",
    "{all} in one sentence, please.",
    "Rank {all}.",
    "What comes after {all}?",
    "Must a beginner know {any}?",
)

CLAIM_PHRASINGS = (
    "{claim}; now tell me about {all}.",
    "{claim}, but what about {any}?",
    "Is it true that {claim}, and what of {all}?",
    "Given that {claim}, explain {all}.",
    "{all}: is it true that {claim}?",
    "I know that {claim}; next come {all}.",
    "Leaving {all} aside, how do we know that {claim}?",
    "{claim}, so why do {all} matter?",
)

TASK_PHRASINGS = (
    "{all}: how do I {task}?",
    "Before I {task}, explain {all}.",
    "To {task}, do I need {any}?",
    "Can {all} help me {task}?",
    "Teach me to {task}, then turn to {all}.",
    "How do I {task}, and where do {all} come in?",
    "I want to {task}; begin with {all}.",
    "Is it hard to {task} without {any}?",
)


class Theme(NamedTuple):
    """The subjects of a theme, separated by semicolons."""

    things: str
    claims: str
    tasks: str


class Prompt(NamedTuple):
    """An id such as `"capitals-003"`, the name of the theme, and the text."""

    id: str
    theme: str
    text: str


THEMES = {
    "capitals": Theme(
        things="""
            Paris; Tokyo; Nairobi; Lima; Oslo; Cairo; Bangkok; Ottawa; Budapest;
            Buenos Aires
        """,
        claims="""
            Canberra is the capital of Australia;
            Ankara is the capital of Turkey;
            Brasília replaced Rio de Janeiro as the capital of Brazil in 1960;
            Nairobi is larger than any other city in Kenya;
            Vienna lies on the Danube;
            Lisbon is the westernmost capital on the mainland of Europe;
            Wellington is the southernmost capital of a sovereign state;
            South Africa divides its capital between three cities;
            Bern is where the Swiss government sits
        """,
        tasks="""
            memorise the capitals of Africa;
            name the capital cities of all Baltic states;
            find the capital of Bolivia on a map;
            tell a capital from the largest city of a country;
            teach children the capitals of Europe;
            guess a country from its capital city
        """,
    ),
    "geography": Theme(
        things="""
            the Nile; the Amazon basin; Mount Everest; the Sahara desert; the Great
            Barrier Reef; the Mississippi delta; the Andes; Lake Baikal; Norwegian
            fjords
        """,
        claims="""
            Africa has more countries than any other continent;
            Mont Blanc is the highest mountain of the Alps;
            Lake Baikal is the deepest lake on Earth;
            the Volga flows into the Caspian Sea;
            Russia has the largest area of all countries;
            the Atacama is among the driest places on Earth;
            the equator passes through Ecuador;
            Greenland is the largest island that is not a continent
        """,
        tasks="""
            read the contour lines of a mountain map;
            find the source of a river;
            measure the height of a mountain;
            draw the coast of Italy from memory;
            tell a lake from an inland sea;
            name the longest rivers of Asia;
            use latitude and longitude to find a place
        """,
    ),
    "chemistry": Theme(
        things="""
            hydrogen; the symbol of gold; carbon atoms; the periodic table; noble
            gases; covalent bonds; the pH scale; acids and bases; sodium; catalysts
        """,
        claims="""
            helium does not burn;
            the symbol of lead comes from its Latin name, plumbum;
            chlorine is a yellow-green gas;
            diamond and graphite are both made of carbon;
            bromine is liquid at room temperature;
            an atom of neon has ten protons;
            vinegar contains acetic acid;
            sodium reacts violently with water;
            tungsten has the highest melting point of the metals
        """,
        tasks="""
            balance a chemical equation;
            dilute an acid safely;
            separate salt from water;
            measure the pH of a solution;
            grow a crystal of copper sulphate;
            learn the first twenty elements;
            work out the number of neutrons in an atom
        """,
    ),
    "physics": Theme(
        things="""
            thermodynamics; gravity; kinetic energy; the speed of light; Newton's
            laws; electromagnetic waves; quantum entanglement; friction; special
            relativity; electrical resistance
        """,
        claims="""
            sound travels faster in water than in air;
            energy cannot be created or destroyed;
            light behaves both as a wave and as a particle;
            heavy and light bodies fall equally fast in a vacuum;
            opposite electric charges attract each other;
            an electron is much lighter than a proton;
            heat flows from a warm body to a cold one;
            a force is measured in newtons
        """,
        tasks="""
            calculate the speed of a falling stone;
            measure the acceleration due to gravity;
            convert joules into kilowatt hours;
            draw the forces on a sliding block;
            build a simple electric motor;
            derive the formula for kinetic energy;
            show that light is a wave
        """,
    ),
    "astronomy": Theme(
        things="""
            Mars; black holes; the Milky Way; solar eclipses; Jupiter; the rings of
            Saturn; supernovae; the Andromeda galaxy; the North Star; light years;
            comets
        """,
        claims="""
            Venus is hotter than Mercury;
            Jupiter is the largest planet of the solar system;
            the Moon always shows us nearly the same face;
            Pluto is now called a dwarf planet;
            light from the Sun needs about eight minutes to reach us;
            Titan, a moon of Saturn, has a thick atmosphere;
            the universe is expanding;
            a day on Venus is longer than its year;
            blue stars are hotter than red ones
        """,
        tasks="""
            find Orion in the winter sky;
            choose a first telescope;
            photograph the Milky Way;
            watch an eclipse safely;
            see the moons of Jupiter with binoculars;
            measure the distance to a star;
            tell a planet from a star at night
        """,
    ),
    "spaceflight": Theme(
        things="""
            Apollo 11; the space station; the Voyager probes; Sputnik; the Hubble
            telescope; reusable rockets; spacewalks; Mars rovers; satellites
        """,
        claims="""
            Sputnik was launched in 1957;
            twelve people have walked on the Moon;
            Laika was a dog sent into orbit by the Soviet Union;
            Voyager 1 has left the heliosphere;
            Valentina Tereshkova was the first woman in space;
            the crew of Apollo 13 returned to Earth safely;
            Ingenuity was a small helicopter that flew on Mars;
            the space station circles the Earth in about ninety minutes
        """,
        tasks="""
            become an astronaut;
            calculate the escape velocity of a rocket;
            see the space station from my garden;
            land a probe on Mars;
            sleep in weightlessness;
            put a small satellite into orbit;
            build a model rocket
        """,
    ),
    "geometry": Theme(
        things="""
            circles; Pythagoras' theorem; isosceles triangles; spheres; the number pi;
            right angles; hexagons; cubes; ellipses
        """,
        claims="""
            the angles of a triangle add up to 180 degrees;
            a cube has twelve edges;
            every square is also a rectangle;
            a triangle with sides 3, 4 and 5 has a right angle;
            the diameter is twice the radius;
            a regular pentagon has five lines of symmetry;
            a sphere has the smallest surface for its volume;
            parallel lines in a plane never meet
        """,
        tasks="""
            bisect an angle with ruler and compass;
            calculate the area of a triangle;
            find the centre of a circle;
            draw a regular hexagon;
            prove that two triangles are congruent;
            work out the length of a hypotenuse;
            measure the volume of a cylinder
        """,
    ),
    "python": Theme(
        things="""
            list comprehensions; Python dictionaries; generator functions; the self
            argument; Python decorators; virtual environments; pandas data frames;
            lambda functions; NumPy arrays; the with statement; f-strings
        """,
        claims="""
            Python lists start at index zero;
            a tuple cannot be changed after it is made;
            Python uses indentation to mark blocks of code;
            dictionary keys in Python must be hashable;
            a set holds no duplicates;
            Python strings are immutable;
            a default argument is evaluated once, when the function is defined;
            len returns the number of items of a list
        """,
        tasks="""
            reverse a list in Python;
            read a CSV file with pandas;
            sort a dictionary by its values;
            merge two dictionaries in Python;
            remove duplicates from a list;
            write a loop over two lists at once;
            count the words of a text file in Python;
            plot a histogram with matplotlib;
            test a Python function with pytest
        """,
    ),
    "sql": Theme(
        things="""
            left joins; primary keys; the GROUP BY clause; foreign keys; database
            indexes; the HAVING clause; window functions; database transactions; NULL
            values; the UNION operator
        """,
        claims="""
            an inner join keeps only the rows that match in both tables;
            a table can have only one primary key;
            in SQL, NULL is not equal to NULL;
            an index makes reading faster and writing slower;
            WHERE filters rows before they are grouped;
            DELETE without WHERE removes every row of a table;
            a foreign key points to a row of another table;
            COUNT(*) counts rows with missing values too
        """,
        tasks="""
            count the rows of a table by customer;
            find duplicate rows with a query;
            join three tables in SQL;
            add a column to an existing table;
            select the ten latest orders;
            speed up a slow query;
            back up a PostgreSQL database;
            update a table from another table;
            avoid SQL injection in a web form
        """,
    ),
    "debugging": Theme(
        things="""
            segmentation faults; null pointers; off-by-one errors; stack overflows;
            memory leaks; race conditions; infinite loops; index errors; uncaught
            exceptions
        """,
        claims="""
            a compiler warning often points to a bug;
            an uncaught exception ends a program;
            recursion without an end overflows the stack;
            dividing by zero raises an error in most languages;
            a race condition may appear only once in a thousand runs;
            reading past the end of an array can crash a C program;
            bisecting the history finds the commit that broke a test;
            an import can fail because of a typing mistake
        """,
        tasks="""
            read a long stack trace;
            fix a module that is not found;
            find a memory leak in my program;
            debug a function that returns None;
            reproduce a bug that appears rarely;
            step through code with a debugger;
            log errors without printing everything;
            undo my last commit in git
        """,
    ),
    "cooking": Theme(
        things="""
            risotto; sourdough bread; béchamel sauce; pancakes; poached eggs; tomato
            soup; vegetable curry; pizza dough; homemade pasta; apple pie
        """,
        claims="""
            salt makes pasta water boil at a slightly higher temperature;
            yeast makes bread rise;
            mayonnaise is made of egg yolk, oil and an acid;
            hummus is made from chickpeas;
            butter burns at a lower temperature than clarified butter;
            meat goes on cooking for a while after it leaves the oven;
            paella comes from Valencia;
            an egg can be boiled hard in ten minutes
        """,
        tasks="""
            cook rice without burning it;
            whip egg whites until stiff;
            knead bread dough by hand;
            fry a steak medium rare;
            thicken a sauce;
            bake a cake without eggs;
            season a cast-iron pan;
            chop an onion without crying
        """,
    ),
    "gardening": Theme(
        things="""
            compost; tomato plants; rose bushes; lawns; sunflowers; orchids; lavender;
            raised vegetable beds; blueberry bushes
        """,
        claims="""
            earthworms loosen the soil;
            rhododendrons like acid soil;
            bees pollinate most fruit trees;
            potatoes grow on underground stems;
            ivy keeps its leaves in winter;
            clover brings nitrogen into the soil;
            carrots dislike freshly manured beds;
            ferns multiply by spores and not by seeds
        """,
        tasks="""
            sow carrots in spring;
            keep slugs away from lettuce;
            water house plants during a holiday;
            grow basil from seed;
            get rid of weeds in a lawn;
            repot an orchid;
            take cuttings from a geranium;
            protect a fig tree from frost
        """,
    ),
    "animals": Theme(
        things="""
            octopuses; blue whales; storks; honey bees; the platypus; wolves;
            elephants; hedgehogs; penguins; chameleons
        """,
        claims="""
            the cheetah is the fastest animal on land;
            a spider has eight legs;
            dolphins are mammals and not fish;
            an octopus has three hearts;
            male seahorses carry the young;
            owls can turn their heads much further than humans;
            penguins do not live wild at the North Pole;
            bats are the only mammals that truly fly;
            koalas eat the leaves of eucalyptus trees
        """,
        tasks="""
            tell a crow from a raven;
            attract birds to my balcony;
            train a puppy to sit;
            keep a cat off the kitchen table;
            recognise the tracks of a deer;
            care for an injured hedgehog;
            feed a tortoise
        """,
    ),
    "anatomy": Theme(
        things="""
            the heart; the liver; the spinal cord; red blood cells; the retina; the
            intestines; the thigh bone; the inner ear; the pancreas
        """,
        claims="""
            an adult has about 206 bones;
            the femur is the longest bone of the body;
            the heart has four chambers;
            insulin is made in the pancreas;
            the stapes in the ear is the smallest bone;
            the right lung has three lobes and the left one two;
            the skin is the largest organ;
            arteries carry blood away from the heart
        """,
        tasks="""
            remember the bones of the hand;
            find my pulse at the wrist;
            name the parts of the brain;
            draw the chambers of the heart;
            tell an artery from a vein;
            follow food through the digestive tract
        """,
    ),
    "medicine": Theme(
        things="""
            migraine; high blood pressure; the common cold; diabetes; sprained ankles;
            allergic reactions; vaccines; antibiotics; asthma; stomach ulcers
        """,
        claims="""
            antibiotics do not work against viruses;
            a fever is a defence of the body;
            chickenpox and shingles are caused by the same virus;
            smoking raises the risk of lung cancer;
            measles is very contagious;
            scurvy is caused by a lack of vitamin C;
            penicillin was discovered by Alexander Fleming;
            a sudden numb face can be a sign of a stroke
        """,
        tasks="""
            treat a mild burn;
            lower a fever;
            recognise the symptoms of a stroke;
            get rid of a sore throat;
            relieve lower back pain;
            measure my blood pressure at home;
            stop a nosebleed;
            tell a cold from the flu
        """,
    ),
    "advice": Theme(
        things="""
            loneliness; fear of failure; grief; jealousy; stress; a broken heart;
            shyness; anger
        """,
        claims="""
            talking about worries makes them feel smaller;
            it is fine to cry when you are sad;
            an honest apology can save a friendship;
            envy hurts the one who feels it;
            children need praise as well as limits;
            grief has no timetable;
            a walk outside can lift your mood;
            being nervous before a date is normal
        """,
        tasks="""
            apologise to a friend I have hurt;
            make new friends as an adult;
            calm down before a job interview;
            comfort someone who is grieving;
            stop comparing myself with others;
            tell my parents bad news;
            end a relationship kindly;
            get over a missed chance
        """,
    ),
    "weather": Theme(
        things="""
            thunderstorms; the jet stream; hurricanes; morning fog; cold fronts; the
            monsoon; rainbows; storm clouds; hail
        """,
        claims="""
            lightning makes the air hotter than the surface of the Sun;
            warm air can hold more water vapour than cold air;
            falling pressure often announces rain;
            hurricanes form over warm seas;
            a snow crystal usually has six arms;
            clear nights are colder than cloudy ones;
            tornadoes are most frequent in the United States;
            dew forms when the air cools near the ground
        """,
        tasks="""
            read a weather map;
            stay safe in a thunderstorm;
            measure rainfall in my garden;
            tell the types of clouds apart;
            prepare a house for a storm;
            dress for freezing weather;
            predict rain from the sky
        """,
    ),
    "music": Theme(
        things="""
            major scales; the circle of fifths; minor chords; the treble clef; perfect
            fifths; syncopation; time signatures; counterpoint; key signatures; sonata
            form
        """,
        claims="""
            an octave doubles the frequency;
            C major has no sharps and no flats;
            a minor third spans three semitones;
            the notes of a C major chord are C, E and G;
            there are twelve semitones in an octave;
            A minor is the relative minor of C major;
            a waltz is in three four time;
            a guitar usually has six strings
        """,
        tasks="""
            transpose a melody into another key;
            tune a guitar by ear;
            read notes in the bass clef;
            harmonise a simple melody;
            count a bar of seven eight;
            tell a major chord from a minor one;
            practise scales on the piano;
            write a bass line for a blues
        """,
    ),
    "football": Theme(
        things="""
            the offside rule; penalty kicks; red cards; goalkeepers; corner kicks; the
            World Cup; throw-ins; free kicks; own goals
        """,
        claims="""
            a football team has eleven players on the field;
            a match lasts ninety minutes plus stoppage time;
            Brazil won the World Cup in 1970;
            two yellow cards make a red card;
            a goal cannot be scored directly from a throw-in;
            the penalty spot is eleven metres from the goal;
            Uruguay won the first World Cup in 1930;
            a player in their own half cannot be offside;
            the goalkeeper may not handle a deliberate back-pass
        """,
        tasks="""
            take a penalty kick;
            defend against a corner;
            become a referee;
            train young goalkeepers;
            curl a free kick around the wall;
            keep score in a league table;
            explain offside to a friend
        """,
    ),
    "chess": Theme(
        things="""
            castling; the Sicilian Defence; pinned knights; rook endgames; the Queen's
            Gambit; stalemate; discovered checks; bishops; passed pawns; Elo ratings
        """,
        claims="""
            a bishop always stays on squares of one colour;
            the queen is the strongest piece on the board;
            a king may not castle out of check;
            the knight is the only piece that jumps over others;
            White moves first;
            two knights alone cannot force checkmate against a bare king;
            a chessboard has 64 squares;
            Magnus Carlsen became world champion in 2013
        """,
        tasks="""
            checkmate with a king and a rook;
            write down the moves of a game;
            answer the Italian Game as Black;
            improve my endgame;
            calculate three moves ahead;
            defend against the King's Gambit;
            teach chess to a child
        """,
    ),
    "history": Theme(
        things="""
            the French Revolution; the fall of Constantinople; the First World War;
            the Battle of Hastings; the Black Death; the Roman Empire; the Congress of
            Vienna; the Cold War; the Berlin Wall
        """,
        claims="""
            the Second World War ended in 1945;
            Columbus reached America in 1492;
            Julius Caesar was murdered in 44 BC;
            Napoleon was defeated at Waterloo;
            the Battle of Hastings took place in 1066;
            the Berlin Wall was built in 1961;
            Cleopatra was the last ruler of the Ptolemaic dynasty;
            Lincoln was shot in a theatre;
            the Ottoman Empire came to an end in 1922
        """,
        tasks="""
            remember the dates of the world wars;
            understand the causes of the First World War;
            compare the Roman and the Persian empire;
            read a medieval document;
            explain the Cold War to a pupil;
            find records of soldiers who fell in the war
        """,
    ),
    "mythology": Theme(
        things="""
            the Trojan horse; Achilles; Thor; the Minotaur; Hades; Ragnarök; Anubis;
            Pandora; Excalibur; Icarus
        """,
        claims="""
            Zeus is the father of Athena;
            Odin gave an eye for wisdom;
            Prometheus stole fire for humankind;
            Medusa's look turned people to stone;
            Romulus and Remus were raised by a she-wolf;
            Orpheus lost Eurydice because he looked back;
            Osiris was killed by his brother Set;
            Mars is the Roman name for the god of war
        """,
        tasks="""
            tell the Greek gods from the Roman ones;
            remember the children of Zeus;
            retell the story of Troy;
            draw the family tree of the Norse gods;
            interpret the myth of Sisyphus;
            name the nine muses
        """,
    ),
    "law": Theme(
        things="""
            rental contracts; the burden of proof; copyright; the presumption of
            innocence; patents; breach of contract; appeal courts; trademarks; wills
        """,
        claims="""
            an accused person counts as innocent until proven guilty;
            a contract can be made by word of mouth;
            copyright ends some decades after the death of the author;
            in many countries nobody may be tried twice for the same offence;
            a patent protects an invention for about twenty years;
            a witness must tell the truth in court;
            ignorance of the law is no excuse;
            a minor can make only limited contracts
        """,
        tasks="""
            cancel a contract in time;
            write a will;
            appeal against a parking fine;
            get my deposit back from the landlord;
            register a trademark;
            behave as a witness in court;
            object to a decision of an authority;
            challenge an unfair dismissal
        """,
    ),
    "finance": Theme(
        things="""
            compound interest; index funds; mortgages; inflation; credit scores;
            emergency savings; pension plans; dividends; exchange rates
        """,
        claims="""
            inflation makes savings worth less;
            spreading investments lowers the risk;
            the price of a bond falls when interest rates rise;
            fees reduce the return of a fund;
            a share is a part of a company;
            paying off expensive debt first saves interest;
            past returns do not guarantee future ones;
            money doubles in about ten years at seven percent interest
        """,
        tasks="""
            save money for a house;
            pay off a student loan;
            compare two mortgages;
            plan for retirement at thirty;
            open a savings account for a child;
            write a household budget;
            invest a small sum every month;
            fill in a tax return
        """,
    ),
    "language": Theme(
        things="""
            the subjunctive; the past tense; relative clauses; German nouns; the
            passive voice; plural forms; irregular verbs; adverbs
        """,
        claims="""
            the past participle of "write" is "written";
            "chat" means "cat" in French;
            German nouns are written with a capital letter;
            an adjective describes a noun;
            the plural of "child" is "children";
            "obrigado" means "thank you" in Portuguese;
            Spanish has two verbs for "to be";
            English lost most of its case endings
        """,
        tasks="""
            translate "good night" into Spanish;
            use a comma before "and";
            learn the German articles;
            say "thank you" in Japanese;
            form the past tense in French;
            turn a sentence into the passive voice;
            pronounce the English "th";
            spell the word "necessary"
        """,
    ),
    "literature": Theme(
        things="""
            Pride and Prejudice; Hamlet; Shakespeare's sonnets; Don Quixote;
            Moby-Dick; War and Peace; Frankenstein; Dante's Inferno; Jane Eyre
        """,
        claims="""
            Mary Shelley wrote Frankenstein;
            Don Quixote was written by Miguel de Cervantes;
            Jane Austen published her first novels without her name;
            a sonnet has fourteen lines;
            Tolstoy wrote Anna Karenina;
            Sherlock Holmes was invented by Arthur Conan Doyle;
            Kafka asked a friend to burn his manuscripts;
            George Eliot was the pen name of Mary Ann Evans;
            Ulysses takes place on a single day in Dublin
        """,
        tasks="""
            write a haiku about autumn;
            begin reading Dostoevsky;
            analyse a poem by Keats;
            find the theme of a novel;
            remember the characters of War and Peace;
            quote a line of Shakespeare;
            finish a novel I have started writing
        """,
    ),
    "film": Theme(
        things="""
            Casablanca; Citizen Kane; tracking shots; Star Wars; silent comedies; film
            noir; the Oscars; jump cuts; special effects
        """,
        claims="""
            Alfred Hitchcock directed Vertigo;
            Titanic won eleven Oscars;
            Charlie Chaplin directed City Lights;
            Toy Story was made entirely by computer animation;
            the Lumière brothers showed films in Paris in 1895;
            Ingmar Bergman was a Swedish director;
            Parasite was the first film not in English to win best picture;
            Humphrey Bogart played Rick in Casablanca
        """,
        tasks="""
            write a screenplay;
            light a scene at night;
            edit a short film;
            find a good western for tonight;
            shoot a dialogue with one camera;
            name three films by Kurosawa;
            become a film critic
        """,
    ),
    "cars": Theme(
        things="""
            diesel engines; the clutch; flat tyres; electric cars; catalytic
            converters; spark plugs; gearboxes; brake pads; turbochargers
        """,
        claims="""
            a diesel engine has no spark plugs;
            electric cars recover energy when they brake;
            low tyre pressure raises fuel consumption;
            a turbocharger is driven by exhaust gas;
            brake fluid takes up water over time;
            a car battery is weaker in the cold;
            the camshaft turns at half the speed of the crankshaft;
            worn tyres need a longer braking distance
        """,
        tasks="""
            change a flat tyre;
            check the oil of my car;
            start a car with jump leads;
            drive a car with a manual gearbox;
            park backwards in a small space;
            save fuel on the motorway;
            charge an electric car at home;
            replace a broken headlight
        """,
    ),
    "travel": Theme(
        things="""
            cheap flights; night trains; tourist visas; airport hotels; travel
            insurance; window seats; hand luggage; rail passes
        """,
        claims="""
            jet lag is worse when flying east;
            a passport should be valid for six months on long journeys;
            trains from London to Paris pass under the sea;
            liquids in hand luggage are limited at many airports;
            hotels cost more in high season;
            a stopover can make a flight cheaper;
            travellers cross many European borders without showing a passport
        """,
        tasks="""
            book a train from Paris to Rome;
            cancel a hotel reservation;
            find a cheap flight in August;
            pack a suitcase for two weeks;
            get from the airport to the city;
            claim money for a cancelled flight;
            travel with a small child;
            choose a seat on a long flight
        """,
    ),
}


def _subjects(text: str) -> list[str]:
    return [" ".join(subject.split()) for subject in text.split(";")]


def _fill(phrasing: str, things: list[str], **subject: str) -> str:
    *first, last = things
    text = phrasing.format(
        all=f"{', '.join(first)} and {last}",
        any=f"{', '.join(first)} or {last}",
        **subject,
    )
    return text[0].upper() + text[1:]


def _texts(theme: Theme, start: int) -> Iterator[str]:
    """Put a theme's subjects into phrasings, of which `start` is the first."""
    things = _subjects(theme.things)
    step = count(start)

    def pick(first: int, *others: int) -> list[str]:
        return [things[(first + other) % len(things)] for other in (0, *others)]

    for others in ((1, 3, 5), (2, 3, 6), (1, 4)):
        for first in range(len(things)):
            phrasing = THING_PHRASINGS[next(step) % len(THING_PHRASINGS)]
            yield _fill(phrasing, pick(first, *others))
    for first, claim in enumerate(_subjects(theme.claims)):
        phrasing = CLAIM_PHRASINGS[next(step) % len(CLAIM_PHRASINGS)]
        yield _fill(phrasing, pick(first, 4), claim=claim)
    for first, task in enumerate(_subjects(theme.tasks)):
        phrasing = TASK_PHRASINGS[next(step) % len(TASK_PHRASINGS)]
        yield _fill(phrasing, pick(first, 3), task=task)


def make_prompts() -> list[Prompt]:
    """Return all prompts, always the same ones, with the themes mixed."""
    prompts = [
        Prompt(f"{name}-{number:03d}", name, text)
        for start, (name, theme) in enumerate(THEMES.items())
        for number, text in enumerate(_texts(theme, start))
    ]
    random.Random(0).shuffle(prompts)
    return prompts


if __name__ == "__main__":
    for prompt in make_prompts():
        print(f"{prompt.id:16} {prompt.text}")
